import { ID_PATTERN } from '../../workflows/contract/ids.js';

/** Port of the guest agent. */
export const AGENT_PORT = 49983;

/** What only this host may ask of the agent: identity and clock, and what prepares a snapshot. */
const INTERNAL = ['/init', '/torpor.guest.v1.Guest'];

export type DataPlaneRoute =
  | { kind: 'guest'; sandboxId: string; port: number; path: string }
  | { kind: 'console'; sandboxId: string; maxBytes: number }
  | { kind: 'network'; sandboxId: string }
  | { kind: 'health' }
  | { kind: 'internal' }
  | { kind: 'unknown' };

const GUEST = /^\/sandboxes\/([^/?]+)\/ports\/([1-9]\d{0,4})(\/[^?]*)?(\?.*)?$/;
const CONSOLE = /^\/sandboxes\/([^/?]+)\/console(?:\?(.*))?$/;
const NETWORK = /^\/sandboxes\/([^/?]+)\/network$/;
const DEFAULT_CONSOLE_BYTES = 65_536;
const MAX_CONSOLE_BYTES = 16 * 1024 * 1024;

/** Reads the target of a request as it came: the guest gets the rest of it untouched. */
export function parseRoute(target: string): DataPlaneRoute {
  if (target === '/health') return { kind: 'health' };
  const toGuest = GUEST.exec(target);
  if (toGuest) {
    const [, sandboxId = '', digits = '', path = '/', query = ''] = toGuest;
    const port = Number(digits);
    if (!ID_PATTERN.test(sandboxId) || port > 65_535) return { kind: 'unknown' };
    if (port === AGENT_PORT && isInternal(path)) return { kind: 'internal' };
    return { kind: 'guest', sandboxId, port, path: path + query };
  }
  const ofNetwork = NETWORK.exec(target)?.[1] ?? '';
  if (ID_PATTERN.test(ofNetwork)) return { kind: 'network', sandboxId: ofNetwork };
  const toConsole = CONSOLE.exec(target);
  const sandboxId = toConsole?.[1] ?? '';
  if (!ID_PATTERN.test(sandboxId)) return { kind: 'unknown' };
  const wanted = Number(new URLSearchParams(toConsole?.[2]).get('max_bytes') ?? DEFAULT_CONSOLE_BYTES);
  const maxBytes = Number.isInteger(wanted) && wanted > 0 ? Math.min(wanted, MAX_CONSOLE_BYTES) : DEFAULT_CONSOLE_BYTES;
  return { kind: 'console', sandboxId, maxBytes };
}

/**
 * Whether the agent could read this path as an internal one, in any spelling: escapes
 * (also of escapes), doubled and backward slashes, dots, parameters, capitals. What
 * cannot be decoded is internal, since nobody can say what it means.
 */
function isInternal(path: string): boolean {
  let plain = path;
  for (let round = 0; plain.includes('%'); round += 1) {
    try {
      plain = decodeURIComponent(plain);
    } catch {
      return true;
    }
    if (round > 3) return true;
  }
  const segments: string[] = [];
  for (const part of plain.split(/[/\\]+/)) {
    const segment = part.split(';')[0] ?? '';
    if (segment === '..') segments.pop();
    else if (segment !== '' && segment !== '.') segments.push(segment);
  }
  const normal = `/${segments.join('/')}`.toLowerCase();
  return INTERNAL.map((prefix) => prefix.toLowerCase()).some(
    (prefix) => normal === prefix || normal.startsWith(`${prefix}/`),
  );
}
