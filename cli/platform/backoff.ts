const FIRST_MS = 1_000;
const LONGEST_MS = 30_000;
/** A process that served this long was well: the next failure is a new one. */
const HEALTHY_MS = 60_000;

/** Pauses between restarts of a process that keeps ending: 1, 2, 4, … 30 seconds. */
export class Backoff {
  #failures = 0;

  /** The pause before the next start of a process that has just ended after this long. */
  next(servedMs: number): number {
    if (servedMs >= HEALTHY_MS) this.#failures = 0;
    const pause = Math.min(FIRST_MS * 2 ** this.#failures, LONGEST_MS);
    this.#failures += 1;
    return pause;
  }
}
