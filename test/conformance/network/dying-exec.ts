import { ChildProcessExec, type Exec, type RunOptions } from '../../../host-worker/exec.js';

const real = new ChildProcessExec();

/**
 * Runs commands until its worker dies: right before the `n`-th command, or right after it was carried out. From then on
 * nothing that waits for a command goes on, as in a process that was killed; commands that ran already run to their end.
 */
export class DyingExec implements Exec {
  readonly died: Promise<'died'>;
  #die: () => void = () => undefined;
  #isDead = false;
  #started = 0;
  readonly #running = new Set<Promise<unknown>>();

  constructor(
    private readonly n: number,
    private readonly when: 'before' | 'after',
  ) {
    this.died = new Promise((resolve) => (this.#die = () => resolve('died')));
  }

  async run(argv: readonly string[], options?: RunOptions): Promise<{ stdout: string; stderr: string }> {
    this.#started += 1;
    const isLast = this.#started === this.n;
    if (isLast && this.when === 'before') this.#isDead = true;
    if (this.#isDead) return this.#never();
    const running = real.run(argv, options);
    this.#running.add(running);
    const result = await running.finally(() => this.#running.delete(running));
    if (isLast) this.#isDead = true;
    return this.#isDead ? this.#never() : result;
  }

  spawnDetached(): Promise<{ pid: number }> {
    return Promise.reject(new Error('a network needs no process'));
  }

  /** Death is known once what was running has ended. */
  async #never(): Promise<never> {
    await Promise.allSettled(this.#running);
    this.#die();
    return new Promise(() => undefined);
  }
}
