import type { IncomingHttpHeaders } from 'node:http';
import { ID_PATTERN } from '../../workflows/contract/ids.js';

/** Names the sandbox that a request is for; the request is then not one to the API. */
export const SANDBOX_HEADER = 'e2b-sandbox-id';
export const PORT_HEADER = 'e2b-sandbox-port';
const AGENT_PORT = 49_983;

/** What a request to the edge is for; `hidden` is what only the guest's host may ask of the agent. */
export type EdgeTarget =
  { kind: 'guest'; sandboxId: string; port: number } | { kind: 'hidden' } | { kind: 'malformed'; why: string };

export function isForGuest(headers: IncomingHttpHeaders): boolean {
  return headers[SANDBOX_HEADER] !== undefined;
}

export function edgeTarget(headers: IncomingHttpHeaders, url: string): EdgeTarget {
  const sandboxId = headers[SANDBOX_HEADER];
  if (typeof sandboxId !== 'string' || !ID_PATTERN.test(sandboxId)) {
    return { kind: 'malformed', why: 'E2b-Sandbox-Id must be the id of a sandbox' };
  }
  const port = headers[PORT_HEADER] ?? String(AGENT_PORT);
  if (typeof port !== 'string' || !/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65_535) {
    return { kind: 'malformed', why: 'E2b-Sandbox-Port must be a port, 1 to 65535' };
  }
  if (!url.startsWith('/')) return { kind: 'malformed', why: 'the request target must be a path' };
  if (Number(port) === AGENT_PORT && isHidden(url)) return { kind: 'hidden' };
  return { kind: 'guest', sandboxId, port: Number(port) };
}

/** However it is spelled: encoded, with doubled slashes or dots, the agent would understand it. */
function isHidden(url: string): boolean {
  const path = decoded(url.split(/[?#]/, 1)[0] ?? '');
  const segments: string[] = [];
  for (const segment of path.split(/[\\/]+/)) {
    if (segment === '..') segments.pop();
    else if (segment !== '.' && segment !== '') segments.push(segment);
  }
  return segments[0] === 'init' || segments[0] === 'torpor.guest.v1.Guest';
}

function decoded(path: string): string {
  try {
    const once = decodeURIComponent(path);
    return once === path ? path : decoded(once);
  } catch {
    return path;
  }
}
