/** Headers that belong to one connection, not to the request (RFC 9110, 7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** The caller's own `Authorization` for the guest; the plain header carries the data plane's token. */
const GUEST_AUTHORIZATION = 'x-torpor-guest-authorization';

/** Name and value in turns, as Node's `rawHeaders`: order, case and repetitions are kept. */
export type RawHeaders = readonly string[];

/** What the guest gets of a request's headers. */
export function toGuest(raw: RawHeaders, options: { upgrade: boolean }): string[] {
  const kept: string[] = [];
  const named = namedByConnection(raw);
  for (const [name, value] of pairs(raw)) {
    const lower = name.toLowerCase();
    if (lower === 'authorization' || lower === 'expect') continue;
    if (lower === GUEST_AUTHORIZATION) kept.push('Authorization', value);
    else if (options.upgrade && lower === 'upgrade') kept.push('Connection', 'Upgrade', name, value);
    // An agreed length or chunking is how the body arrives; Node frames it anew from this.
    else if (lower === 'transfer-encoding') kept.push(name, 'chunked');
    else if (!HOP_BY_HOP.has(lower) && !named.has(lower)) kept.push(name, value);
  }
  return kept;
}

/** What the client gets of a response's headers; the connection's framing is this server's own. */
export function toClient(raw: RawHeaders): string[] {
  const named = namedByConnection(raw);
  return pairs(raw).flatMap(([name, value]) => {
    const lower = name.toLowerCase();
    return HOP_BY_HOP.has(lower) || named.has(lower) ? [] : [name, value];
  });
}

/** Headers that `Connection` declares to be of one hop only. */
function namedByConnection(raw: RawHeaders): Set<string> {
  const values = pairs(raw).filter(([name]) => name.toLowerCase() === 'connection');
  return new Set(values.flatMap(([, value]) => value.split(',').map((token) => token.trim().toLowerCase())));
}

function pairs(raw: RawHeaders): [string, string][] {
  const made: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) made.push([raw[at] ?? '', raw[at + 1] ?? '']);
  return made;
}
