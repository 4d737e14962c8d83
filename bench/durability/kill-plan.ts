import { Dice } from '../../test/chaos/seeds.js';

/** Long enough to fall into any step of a life, some of them into the next one. */
const LONGEST_WAIT_MS = 3_000;

/** A kill comes so long after a life began. */
export interface PlannedKill {
  life: number;
  afterMs: number;
}

/**
 * Tied to lives rather than to the clock, so that a slow orchestrator and a fast one are met at the same places, and all
 * kills happen to both. The same seed gives the same plan.
 */
export function planKills(seed: number, kills: number, lives: number): PlannedKill[] {
  const dice = new Dice(seed);
  return Array.from({ length: kills }, () => ({
    life: dice.between(0, lives - 1),
    afterMs: dice.between(0, LONGEST_WAIT_MS),
  })).toSorted((a, b) => a.life - b.life || a.afterMs - b.afterMs);
}
