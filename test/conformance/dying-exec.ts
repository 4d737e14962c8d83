import type { Exec, RunOptions } from '../../host-worker/exec.js';
import { deferred } from '../support/deferred.js';

type Output = { stdout: string; stderr: string };

/** `after`: the command has run and its answer is lost. `abort`: the signal of the call fires instead. */
export type Death = 'before' | 'after' | 'abort';

/**
 * The commands of a worker that dies at its `n`th one. From then on nothing that waits for a command goes on, so that not
 * even the clean-up of a failed call runs, as after SIGKILL; commands that ran already run to their end.
 */
export class DyingExec implements Exec {
  readonly #died = deferred<'died'>();
  readonly #abort = new AbortController();
  readonly #running: Promise<unknown>[] = [];
  #count = 0;
  #isDead = false;

  constructor(
    private readonly exec: Exec,
    private readonly n: number,
    private readonly death: Death,
  ) {}

  /** After the death, when the commands that were running have ended. */
  get died(): Promise<'died'> {
    return this.#died.promise;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The call has come as far as its `n`th command. */
  get reached(): boolean {
    return this.#count >= this.n;
  }

  async run(argv: readonly string[], options: RunOptions = {}): Promise<Output> {
    this.#count += 1;
    const isFatal = this.#count === this.n;
    if (isFatal && this.death === 'abort') this.#abort.abort(new Error('enough'));
    if (isFatal && this.death === 'before') this.#isDead = true;
    if (this.#isDead) return this.#never();
    const running = this.exec.run(argv, options);
    this.#running.push(running);
    await Promise.allSettled([running]);
    if (isFatal && this.death === 'after') this.#isDead = true;
    return this.#isDead ? this.#never() : running;
  }

  spawnDetached(): Promise<{ pid: number }> {
    return Promise.reject(new Error('neither a disk nor a network needs a process'));
  }

  async #never(): Promise<never> {
    await Promise.allSettled(this.#running);
    this.#died.resolve('died');
    return new Promise(() => undefined);
  }
}
