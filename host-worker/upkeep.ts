import { setTimeout as sleep } from 'node:timers/promises';

const PAUSE_MS = 60_000;

interface UpkeepLog {
  warn(fields: object, message: string): void;
}

/** What a driver has to do now and then that no step asks for. */
export interface UpkeepTask {
  /** In words that fit behind "upkeep:". */
  name: string;
  run: () => Promise<void>;
}

/**
 * Guests print without end into a file of this machine, copy-on-write disks fill up, pools run
 * dry. So all of that is looked after at once, as a worker that is often restarted would else
 * never do it, and then every minute. A task that fails keeps no other from its turn.
 */
export class Upkeep {
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(
    private readonly tasks: readonly UpkeepTask[],
    private readonly log: UpkeepLog,
    private readonly pauseMs = PAUSE_MS,
  ) {}

  start(): void {
    this.#running ??= this.#keep();
  }

  /** Resolves when no task runs any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      for (const task of this.tasks) if (!signal.aborted) await this.#attempt(task);
      await sleep(this.pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #attempt({ name, run }: UpkeepTask): Promise<void> {
    try {
      await run();
    } catch (err) {
      this.log.warn({ err, upkeep: name }, 'upkeep failed; tried again later');
    }
  }
}
