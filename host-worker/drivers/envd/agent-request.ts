import { request } from 'node:http';
import type { Socket } from 'node:net';

export interface AgentRequest {
  address: string;
  port: number;
  method: 'GET' | 'POST';
  path: string;
  json?: unknown;
  /** From the first packet to an accepted connection. */
  connectMs: number;
  /** From the accepted connection to the whole answer. */
  answerMs: number;
  signal?: AbortSignal | undefined;
}

/** What is read of an answer; the agent's own are shorter. */
const MAX_ANSWER_BYTES = 64 * 1024;

/**
 * One small request on a connection of its own. A kept one would be worse than none
 * here: the guest behind an address is frozen, restored and replaced.
 */
export function askAgent(options: AgentRequest): Promise<{ status: number; body: string }> {
  const { address, port, method, path, json, connectMs, answerMs, signal } = options;
  const body = json === undefined ? undefined : JSON.stringify(json);
  const headers =
    body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const ask = request({ host: address, port, method, path, headers, agent: false, ...(signal ? { signal } : {}) });
    let timer: NodeJS.Timeout | undefined;
    const within = (ms: number, what: string) => {
      clearTimeout(timer);
      timer = setTimeout(() => ask.destroy(new Error(`no ${what} within ${ms} ms`)), ms);
    };
    ask.once('socket', (socket: Socket) => {
      within(connectMs, 'connection');
      socket.once('connect', () => within(answerMs, 'answer'));
    });
    ask.once('close', () => clearTimeout(timer));
    ask.once('error', (err) => reject(signal?.aborted ? (signal.reason as Error) : err));
    ask.once('response', (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (chunk: string) => (text = (text + chunk).slice(0, MAX_ANSWER_BYTES)));
      answer.once('error', reject);
      answer.once('end', () => resolve({ status: answer.statusCode ?? 0, body: text }));
    });
    ask.end(body);
  });
}
