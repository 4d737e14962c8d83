import type { IncomingMessage } from 'node:http';
import { GUEST_AUTHORIZATION } from '../host/host-data-plane.js';
import { PORT_HEADER, SANDBOX_HEADER } from './edge-target.js';

/** Of one connection, not of the request that it carries. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'upgrade',
  'proxy-connection',
]);
/** Ours, or keys of the API that no guest may see. */
const NOT_FOR_GUESTS = new Set([
  SANDBOX_HEADER,
  PORT_HEADER,
  GUEST_AUTHORIZATION,
  'x-api-key',
  'x-host-token',
  'x-registration-token',
]);

/** As they came, in order; the data plane's own token in place of the caller's `Authorization`, which goes along. */
export function toDataPlane(request: IncomingMessage, authorization: string, upgrade: boolean): string[] {
  const named = connectionHeaders(request);
  const kept: string[] = [];
  for (const [name, value] of pairs(request.rawHeaders)) {
    const lower = name.toLowerCase();
    if (lower === 'authorization') kept.push(GUEST_AUTHORIZATION, value);
    else if (!HOP_BY_HOP.has(lower) && !NOT_FOR_GUESTS.has(lower) && !named.has(lower)) kept.push(name, value);
  }
  kept.push('Authorization', authorization);
  if (upgrade) kept.push('Connection', 'Upgrade', 'Upgrade', request.headers.upgrade ?? '');
  return kept;
}

export function toCaller(response: IncomingMessage): string[] {
  const named = connectionHeaders(response);
  return pairs(response.rawHeaders)
    .filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()) && !named.has(name.toLowerCase()))
    .flat();
}

function connectionHeaders({ headers }: IncomingMessage): Set<string> {
  return new Set(
    (headers.connection ?? '')
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  );
}

function pairs(raw: readonly string[]): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i] ?? '', raw[2 * i + 1] ?? '']);
}
