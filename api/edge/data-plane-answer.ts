import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';

/** What the host's data plane says instead of a guest. */
export type DataPlaneRefusal = 'sandbox-not-found' | 'port-closed';

/** An answer, looked into: a refusal, or the guest's own answer with what was read of its body. */
export type DataPlaneAnswer =
  { kind: 'refusal'; refusal: DataPlaneRefusal } | { kind: 'guest'; begun: Buffer; ended: boolean };

/** Refusals are shorter; what is longer is a guest's. */
const LOOK_AT_BYTES = 4_096;
const UNTOUCHED: DataPlaneAnswer = { kind: 'guest', begun: Buffer.alloc(0), ended: false };

/**
 * Tells a refusal of the data plane from an answer of the guest with the same status. A refusal names the sandbox that
 * was asked for; only answers that may be one are read here, and no further than a refusal is long.
 */
export async function readDataPlaneAnswer(answer: IncomingMessage, sandboxId: string): Promise<DataPlaneAnswer> {
  const { statusCode, headers } = answer;
  const may = (statusCode === 404 || statusCode === 502) && headers['content-type'] === 'application/json';
  if (!may || Number(headers['content-length'] ?? 0) > LOOK_AT_BYTES) return UNTOUCHED;
  const { begun, ended } = await readSome(answer, LOOK_AT_BYTES);
  const refusal = ended ? refusalIn(begun.toString(), sandboxId) : null;
  return refusal === null ? { kind: 'guest', begun, ended } : { kind: 'refusal', refusal };
}

function refusalIn(text: string, sandboxId: string): DataPlaneRefusal | null {
  const { code, details } = errorIn(text);
  if (details?.['sandboxId'] !== sandboxId) return null;
  if (code === 'guest_unavailable' && details['port'] !== undefined) return 'port-closed';
  // Without a port: it is being started, paused or ended, and takes no connections.
  return code === 'not_found' || code === 'guest_unavailable' ? 'sandbox-not-found' : null;
}

function errorIn(text: string): { code?: unknown; details?: Record<string, unknown> } {
  try {
    const body = JSON.parse(text) as { error?: { code?: unknown; details?: Record<string, unknown> } } | null;
    return body?.error ?? {};
  } catch {
    return {};
  }
}

/** Up to so many bytes, or until the end. Rejects when the stream breaks off. */
async function readSome(stream: Readable, limit: number): Promise<{ begun: Buffer; ended: boolean }> {
  const chunks: Buffer[] = [];
  let size = 0;
  // Leaving the loop must leave the stream to be read on.
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > limit) return { begun: Buffer.concat(chunks), ended: false };
  }
  return { begun: Buffer.concat(chunks), ended: true };
}
