import { setTimeout as sleep } from 'node:timers/promises';
import type { GuestConnections } from '../activities/host/guest-connections.js';
import { adopt, type Caretaker } from './adopt.js';
import { reclaim } from './reclaim.js';

const HOURLY_MS = 60 * 60 * 1_000;
const BACKOFF_MS = { first: 1_000, last: 60_000 };

/** Adopts and reclaims at start and every hour; while it cannot, it keeps everything and tries again. */
export class Caretaking {
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(
    private readonly caretaker: Caretaker,
    private readonly connections: GuestConnections,
  ) {}

  /** Resolves after the first attempt, whether it succeeded or not. */
  async start(): Promise<void> {
    const succeeded = await this.#once();
    this.#running = this.#keep(succeeded);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #keep(succeeded: boolean): Promise<void> {
    let healthy = succeeded;
    let backoff = BACKOFF_MS.first;
    while (await this.#slept(healthy ? HOURLY_MS : backoff)) {
      healthy = await this.#once();
      backoff = healthy ? BACKOFF_MS.first : Math.min(backoff * 2, BACKOFF_MS.last);
    }
  }

  async #once(): Promise<boolean> {
    try {
      await adopt(this.caretaker);
      await reclaim(this.caretaker, this.connections);
      await this.caretaker.journal.takeBallast();
      return true;
    } catch (err) {
      this.caretaker.log.warn({ err }, 'nothing is reclaimed as long as the control plane cannot be asked');
      return false;
    }
  }

  async #slept(ms: number): Promise<boolean> {
    try {
      await sleep(ms, undefined, { signal: this.#stop.signal, ref: false });
      return true;
    } catch {
      return false;
    }
  }
}
