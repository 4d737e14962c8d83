import { setTimeout as sleep } from 'node:timers/promises';

const PAUSE_MS = 60_000;

interface TrimmingLog {
  warn(fields: object, message: string): void;
}

/**
 * A guest can print without end, into a file of this machine. So all consoles are cut now
 * and then: at once, as a worker that is often restarted would else never do it, and then
 * every minute.
 */
export class ConsoleTrimming {
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(
    private readonly trim: () => Promise<void>,
    private readonly log: TrimmingLog,
    private readonly pauseMs = PAUSE_MS,
  ) {}

  start(): void {
    this.#running ??= this.#keep();
  }

  /** Resolves when no console is being cut any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.trim();
      } catch (err) {
        this.log.warn({ err }, 'the consoles of guests could not be cut; tried again later');
      }
      await sleep(this.pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}
