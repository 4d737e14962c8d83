import type { IncomingHttpHeaders } from 'node:http';

/** An answer of the edge itself, not of a guest. */
export interface Refusal {
  status: number;
  type: string;
  body: string;
}

const TEXT = 'text/plain; charset=utf-8';

export function malformed(why: string): Refusal {
  return { status: 400, type: TEXT, body: why };
}

/** What only the guest's host may ask of the agent. */
export function hidden(): Refusal {
  return json(404, { code: 404, message: 'not found' });
}

/** It was never there, has ended, is paused, or its host is away. */
export function sandboxNotFound(asked: IncomingHttpHeaders, sandboxId: string): Refusal {
  return unreachable(asked, `Sandbox ${sandboxId} was not found: it does not exist or does not run.`, {
    sandboxId,
    message: 'The sandbox was not found',
    code: 502,
  });
}

export function portClosed(asked: IncomingHttpHeaders, sandboxId: string, port: number): Refusal {
  return unreachable(asked, `Sandbox ${sandboxId} is running, but nothing in it answers on port ${port}.`, {
    sandboxId,
    message: 'The sandbox is running but port is not open',
    port,
    code: 502,
  });
}

/** SDKs branch on the shape; people read the sentence. */
function unreachable({ accept }: IncomingHttpHeaders, sentence: string, body: object): Refusal {
  const isBrowser = accept?.includes('text/html') ?? false;
  return isBrowser ? { status: 502, type: TEXT, body: `${sentence}\n` } : json(502, body);
}

function json(status: number, body: object): Refusal {
  return { status, type: 'application/json', body: JSON.stringify(body) };
}
