import { request } from 'node:http';
import { DomainError, isErrorCode } from '../../workflows/contract/errors.js';

const ANSWER_MS = 60_000;
/** A save may be told to take its time. */
const SAVE_MS = 600_000;

export interface VmmStatus {
  status: 'running' | 'frozen';
  nonce: string;
}

/** Commands to a simulated VMM, each on a connection of its own. */
export class VmmControl {
  constructor(private readonly socketPath: string) {}

  status(signal?: AbortSignal): Promise<VmmStatus> {
    return this.#ask('GET', '/status', undefined, ANSWER_MS, signal) as Promise<VmmStatus>;
  }

  async freeze(signal?: AbortSignal): Promise<void> {
    await this.#ask('POST', '/freeze', undefined, ANSWER_MS, signal);
  }

  async unfreeze(signal?: AbortSignal): Promise<void> {
    await this.#ask('POST', '/unfreeze', undefined, ANSWER_MS, signal);
  }

  save(file: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }> {
    return this.#ask('POST', '/save', { file }, SAVE_MS, signal) as Promise<{ bytes: number; sha256: string }>;
  }

  #ask(
    method: string,
    path: string,
    json: unknown,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const options = { socketPath: this.socketPath, method, path, agent: false, ...(signal ? { signal } : {}) };
      const asked = request(options, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => (text += chunk));
        answer.once('error', reject);
        answer.once('end', () => (answer.statusCode === 200 ? resolve(JSON.parse(text)) : reject(refusal(path, text))));
      });
      asked.setTimeout(timeoutMs, () => {
        const message = `the VMM did not answer ${path} within ${timeoutMs} ms on ${this.socketPath}`;
        asked.destroy(new DomainError('timeout', message));
      });
      // The reason of whoever cancelled, so that callers tell it from a failure.
      asked.once('error', (err) => reject(signal?.aborted === true ? (signal.reason as Error) : err));
      asked.end(json === undefined ? undefined : JSON.stringify(json));
    });
  }
}

/** What the system refused comes back with its errno, as from a call of this process. */
function refusal(command: string, answer: string): Error {
  const { code, message } = JSON.parse(answer) as { code: string; message: string };
  if (isErrorCode(code)) return new DomainError(code, message);
  if (/^E[A-Z0-9]+$/.test(code)) return Object.assign(new Error(`${code}: ${message}`), { code });
  return new DomainError('command_failed', `the VMM refused ${command}: ${message}`);
}
