import { createHash, randomBytes } from 'node:crypto';
import { derivedId, toId } from '../../activities/control/derived-id.js';

export function randomId(): string {
  return toId(randomBytes(16));
}

/** Of the operation that a request under an Idempotency-Key starts. */
export function operationIdOf(teamId: string, route: string, key: string): string {
  return derivedId('operation', teamId, route, key);
}

/** Of the sandbox that a create makes: a create that is sent twice makes one. */
export function sandboxIdOf(opId: string): string {
  return derivedId('sandbox', opId);
}

/** JSON with the same text for the same content. */
export function hashOf(request: unknown): string {
  return createHash('sha256').update(canonical(request)).digest('hex');
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value)
    .filter(([, entry]) => entry !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${canonical(entry)}`).join(',')}}`;
}
