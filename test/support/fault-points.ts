import { setTimeout as sleep } from 'node:timers/promises';
import { deferred } from './deferred.js';

export interface FailOptions {
  /** How many calls fail; default 1. `Infinity` until `clear()`. */
  times?: number;
  /** `after`: the work is done and its answer lost, as when a worker dies in between. Default `before`. */
  when?: 'before' | 'after';
}

export interface Block {
  /** Resolves when a call stands at the block. */
  readonly reached: Promise<void>;
  /** Lets this call and all later ones go on. */
  release(): void;
}

interface Fault {
  left: number;
  when: 'before' | 'after';
  error: Error;
}

/** Where tests make calls fail, wait or stand still, by `port.method`. */
export class FaultPoints<Method extends string> {
  readonly #faults = new Map<string, Fault[]>();
  readonly #delays = new Map<string, number>();
  readonly #blocks = new Map<string, { open: Promise<void>; deaf: boolean; reach: () => void }>();

  /** The next calls of `method` reject with `error`; several plans of one method queue up. */
  fail(method: Method, error: Error, options: FailOptions = {}): void {
    const plan = { left: options.times ?? 1, when: options.when ?? 'before', error } as const;
    this.#faults.set(method, [...(this.#faults.get(method) ?? []), plan]);
  }

  /** Every call of `method` takes at least this long; a fired signal ends the wait. */
  delay(method: Method, ms: number): void {
    this.#delays.set(method, ms);
  }

  /**
   * Calls of `method` stand still before they do anything. A `deaf` one does not hear its signal either; with `once` only
   * the first call does.
   */
  block(method: Method, options: { deaf?: boolean; once?: boolean } = {}): Block {
    const reached = deferred();
    const open = deferred();
    const reach = () => {
      if (options.once) this.#blocks.delete(method);
      reached.resolve();
    };
    this.#blocks.set(method, { open: open.promise, deaf: options.deaf ?? false, reach });
    return {
      reached: reached.promise,
      release: () => {
        this.#blocks.delete(method);
        open.resolve();
      },
    };
  }

  clear(): void {
    this.#faults.clear();
    this.#delays.clear();
  }

  async before(method: Method, signal: AbortSignal | undefined): Promise<void> {
    const block = this.#blocks.get(method);
    if (block) {
      block.reach();
      await (block.deaf ? block.open : unlessAborted(block.open, signal));
    }
    const delay = this.#delays.get(method);
    if (delay !== undefined) await sleep(delay, undefined, signal ? { signal } : {});
    signal?.throwIfAborted();
    this.#throwPlanned(method, 'before');
  }

  after(method: Method): void {
    this.#throwPlanned(method, 'after');
  }

  #throwPlanned(method: Method, when: 'before' | 'after'): void {
    const fault = this.#faults.get(method)?.find((plan) => plan.left > 0);
    if (fault?.when !== when) return;
    fault.left -= 1;
    throw fault.error;
  }
}

async function unlessAborted(open: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return open;
  signal.throwIfAborted();
  const aborted = deferred<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([open, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
