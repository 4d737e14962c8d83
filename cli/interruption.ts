import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';

/**
 * Ctrl-C and SIGTERM as a promise and a signal. A second one ends the process at once:
 * whoever presses it twice does not want to wait for anything.
 */
export class Interruption {
  readonly happened: Promise<NodeJS.Signals>;
  readonly #controller = new AbortController();

  constructor() {
    this.happened = new Promise((resolve) => {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
        process.on(name, () => {
          if (this.#controller.signal.aborted) process.exit(EXIT.interrupted);
          this.#controller.abort(
            new CliError(`interrupted by ${name}`, { exitCode: EXIT.interrupted, code: 'interrupted' }),
          );
          resolve(name);
        });
      }
    });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The work's result, or a rejection as soon as the interruption comes. */
  async guard<T>(work: Promise<T>): Promise<T> {
    const interrupted = this.happened.then(() => {
      throw this.#controller.signal.reason;
    });
    return Promise.race([work, interrupted]);
  }
}
