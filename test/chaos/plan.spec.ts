import { describe, expect, it } from '@jest/globals';
import type { Boundary, StepProcess } from './boundary.js';
import { PROCESS_NAMES } from './chaos-process.js';
import { allCases, batches, crossSection, type Recorded } from './plan.js';
import { Dice } from './seeds.js';
import { OPERATIONS } from './stories.js';

const boundaries = (process: StepProcess, count: number): Boundary[] =>
  Array.from({ length: count }, (_, index) => ({ process, step: `step${index}`, occurrence: 1, edge: 'before' }));

const recorded: Recorded = new Map(
  OPERATIONS.map((operation) => [operation, [...boundaries('host-worker', 10), ...boundaries('control-worker', 4)]]),
);

describe('plan', () => {
  const all = allCases(recorded);

  it('has every boundary of every operation with every process', () => {
    expect(all).toHaveLength(OPERATIONS.length * 14 * PROCESS_NAMES.length);
  });

  it('never has more held at once than a worker can hold, and forgets none', () => {
    const rounds = batches(all);
    expect(rounds.flat()).toHaveLength(all.length);
    for (const round of rounds) {
      expect(new Set(round.map(({ process }) => process)).size).toBe(1);
      expect(round.filter(({ boundary }) => boundary?.process === 'host-worker').length).toBeLessThanOrEqual(12);
      expect(round.filter(({ boundary }) => boundary?.process === 'control-worker').length).toBeLessThanOrEqual(16);
    }
  });

  it('has a cross-section with everything in it, the same for the same seed', () => {
    const section = crossSection(all, new Dice(1));
    for (const process of PROCESS_NAMES) {
      const own = section.filter((plan) => plan.process === process);
      expect(new Set(own.map(({ operation }) => operation))).toEqual(new Set(OPERATIONS));
    }
    expect(crossSection(all, new Dice(1))).toEqual(section);
    expect(crossSection(all, new Dice(2))).not.toEqual(section);
  });
});

describe('dice', () => {
  it('repeats itself for a seed', () => {
    const draw = (seed: number) => {
      const dice = new Dice(seed);
      return Array.from({ length: 5 }, () => dice.between(1, 1000));
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
    expect(new Set(new Dice(3).shuffled([1, 2, 3, 4, 5]))).toEqual(new Set([1, 2, 3, 4, 5]));
  });
});
