import { EventEmitter } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';

const COMMAND_TIMEOUT_MS = 10_000;
const QUEUE_PAUSE_MS = 5;

export interface Wait {
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

interface QmpMessage {
  QMP?: unknown;
  return?: unknown;
  error?: { class: string; desc: string };
  id?: number;
  event?: string;
  data?: Record<string, unknown>;
}

export interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
}

/**
 * One conversation with a VMM over its monitor socket. QEMU talks to one client per
 * socket at a time and lets others wait, so conversations are kept short.
 */
export class QmpClient {
  readonly #emitter = new EventEmitter();
  #nextId = 1;
  #closed: Error | undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly path: string,
  ) {
    this.#emitter.setMaxListeners(0);
    // The interface repeats the socket's errors, so they are taken there.
    const lines = createInterface({ input: socket });
    lines.on('line', (line) => this.#receive(line)).on('error', (cause) => this.#close(cause));
    socket.on('close', () => this.#close());
  }

  static async connect(path: string, wait: Wait = {}): Promise<QmpClient> {
    const deadline = Date.now() + (wait.timeoutMs ?? COMMAND_TIMEOUT_MS);
    for (;;) {
      try {
        return await QmpClient.#connectOnce(path, wait);
      } catch (err) {
        // Its queue has room for one that waits, and others are refused at once.
        const refused = err instanceof DomainError && hasErrno(err.cause, 'EAGAIN');
        if (!refused || Date.now() > deadline) throw err;
        await delay(QUEUE_PAUSE_MS, undefined, { signal: wait.signal });
      }
    }
  }

  static async #connectOnce(path: string, wait: Wait): Promise<QmpClient> {
    wait.signal?.throwIfAborted();
    const client = new QmpClient(createConnection(path), path);
    try {
      await client.#wait('the greeting', (message) => (message.QMP === undefined ? undefined : true), wait);
      await client.execute('qmp_capabilities', {}, wait);
      return client;
    } catch (err) {
      client.close();
      throw err;
    }
  }

  /** Opens, uses and closes. */
  static async with<T>(path: string, wait: Wait, use: (qmp: QmpClient) => Promise<T>): Promise<T> {
    const client = await QmpClient.connect(path, wait);
    try {
      return await use(client);
    } finally {
      client.close();
    }
  }

  async execute(command: string, args: Record<string, unknown> = {}, wait: Wait = {}): Promise<unknown> {
    const id = this.#nextId++;
    const answer = this.#wait(`the answer to ${command}`, (message) => (message.id === id ? message : undefined), wait);
    this.socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    const { error, return: value } = await answer;
    if (error !== undefined) {
      throw new DomainError('command_failed', `QEMU refused ${command}: ${error.desc}`, { class: error.class });
    }
    return value;
  }

  /**
   * Resolves with the next event that `accepts`. To be called before the command that
   * causes it, and awaited after.
   */
  event(name: string, accepts: (data: Record<string, unknown>) => boolean, wait: Wait): Promise<QmpEvent> {
    const match = ({ event, data = {} }: QmpMessage): QmpEvent | undefined =>
      event === name && accepts(data) ? { event, data } : undefined;
    const event = this.#wait(`event ${name}`, match, wait);
    // The command may fail first; then nobody awaits this one.
    event.catch(() => undefined);
    return event;
  }

  close(): void {
    this.socket.destroy();
  }

  #wait<T>(what: string, match: (message: QmpMessage) => T | undefined, wait: Wait): Promise<T> {
    const { timeoutMs = COMMAND_TIMEOUT_MS, signal } = wait;
    return new Promise<T>((resolve, reject) => {
      if (this.#closed !== undefined) return reject(this.#closed);
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const settle = (end: () => void): void => {
        clearTimeout(deadline);
        this.#emitter.off('message', onMessage).off('closed', onClosed);
        signal?.removeEventListener('abort', onAbort);
        end();
      };
      const onMessage = (message: QmpMessage): void => {
        const result = match(message);
        if (result !== undefined) settle(() => resolve(result));
      };
      const onClosed = (reason: Error): void => settle(() => reject(reason));
      const onAbort = (): void => settle(() => reject(signal?.reason as Error));
      const deadline = setTimeout(() => {
        const message = `QEMU did not send ${what} within ${timeoutMs} ms on ${this.path}`;
        settle(() => reject(new DomainError('timeout', message)));
      }, timeoutMs);
      this.#emitter.on('message', onMessage).on('closed', onClosed);
      signal?.addEventListener('abort', onAbort, { once: true });
      return undefined;
    });
  }

  #receive(line: string): void {
    try {
      this.#emitter.emit('message', JSON.parse(line) as QmpMessage);
    } catch (cause) {
      this.#close(cause);
    }
  }

  #close(cause?: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = new DomainError('command_failed', `QEMU closed the connection on ${this.path}`, {}, { cause });
    this.socket.destroy();
    this.#emitter.emit('closed', this.#closed);
  }
}
