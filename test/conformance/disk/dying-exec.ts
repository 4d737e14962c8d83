import type { Exec, RunOptions } from '../../../host-worker/exec.js';
import { deferred } from '../../support/deferred.js';

type Output = { stdout: string; stderr: string };

/** `after`: the command has run and its answer is lost. `abort`: the signal of the call fires instead. */
export type Death = 'before' | 'after' | 'abort';

/**
 * The commands of a worker that dies at its `n`th one: from then on nothing answers any more, so that not even the
 * clean-up of a failed call runs, as after SIGKILL.
 */
export class DyingExec implements Exec {
  readonly #died = deferred();
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<unknown>>();
  #count = 0;

  constructor(
    private readonly exec: Exec,
    private readonly n: number,
    private readonly death: Death,
  ) {}

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The call has come as far as its `n`th command. */
  get reached(): boolean {
    return this.#count >= this.n;
  }

  /** Resolves after the death, when the commands that were running have ended. */
  async died(): Promise<void> {
    await this.#died.promise;
    await Promise.allSettled(this.#running);
  }

  async run(argv: readonly string[], options: RunOptions = {}): Promise<Output> {
    this.#count += 1;
    if (this.death === 'abort') {
      if (this.#count === this.n) this.#abort.abort(new Error('enough'));
      return this.exec.run(argv, options);
    }
    if (this.#count > this.n || (this.#count === this.n && this.death === 'before')) return this.#die();
    const running = this.exec.run(argv, options);
    this.#running.add(running);
    if (this.#count < this.n) return running;
    await Promise.allSettled([running]);
    return this.#die();
  }

  spawnDetached(): Promise<{ pid: number }> {
    return Promise.reject(new Error('a disk needs no process'));
  }

  #die(): Promise<Output> {
    this.#died.resolve();
    return new Promise(() => undefined);
  }
}
