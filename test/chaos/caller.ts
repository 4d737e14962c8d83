import { setTimeout as delay } from 'node:timers/promises';
import type { Api, Answer } from '../support/e2e-api.js';

const AGAIN_MS = 100;

interface Refusal {
  error?: { code?: string; message?: string; details?: Record<string, unknown> };
}

/** What a caller got in the end. */
export interface Answered {
  status: number;
  body: unknown;
  code: string | undefined;
  /** How often it was asked. */
  attempts: number;
}

export interface Request {
  method: string;
  path: string;
  body?: unknown;
  /** With it a request may be sent again without happening twice. */
  key?: string;
}

/**
 * A patient caller: one whose connection breaks, or who is told that the platform cannot answer now, sends the same request
 * again. Any other answer is the answer.
 */
export async function insist(api: Api, request: Request, until: AbortSignal): Promise<Answered> {
  const { method, path, body, key } = request;
  const question = {
    ...(body === undefined ? {} : { body }),
    ...(key === undefined ? {} : { headers: { 'idempotency-key': key } }),
  };
  for (let attempts = 1; ; attempts++) {
    const answer = await api.ask(method, path, question).catch(() => undefined);
    if (answer !== undefined && !isPassing(answer)) {
      return { status: answer.status, body: answer.body, code: codeOf(answer), attempts };
    }
    if (until.aborted) throw new Error(`${method} ${path}: no answer after ${attempts} attempts: ${told(answer)}`);
    await delay(AGAIN_MS);
  }
}

/**
 * Whether it is about the platform's state of the moment rather than about the request. An operation that has failed has the
 * step at which it did in its answer, whatever its code is.
 */
function isPassing(answer: Answer): boolean {
  if (answer.status < 500 || (answer.body as Refusal | null)?.error?.details?.['step'] !== undefined) return false;
  return ['control_plane_unavailable', 'internal_error', undefined].includes(codeOf(answer));
}

function codeOf({ body }: Answer): string | undefined {
  return (body as Refusal | null)?.error?.code;
}

function told(answer: Answer | undefined): string {
  return answer === undefined ? 'it cannot be reached' : `${answer.status} ${JSON.stringify(answer.body)}`;
}
