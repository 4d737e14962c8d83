import { describe, expect, it } from '@jest/globals';
import { compare, median } from './statistics.js';

describe('median', () => {
  it.each([
    [[3], 3],
    [[4, 1, 3], 3],
    [[10, 2, 4, 1], 3],
  ])('of %j is %d', (values, middle) => {
    expect(median(values)).toBe(middle);
  });

  it('of nothing is an error, not a number', () => {
    expect(() => median([])).toThrow('nothing');
  });
});

describe('compare', () => {
  it('gives medians, their ratio and an interval around it', () => {
    const pairs = [10, 11, 12, 13, 14].map((direct) => ({ direct, torpor: direct * 1.5 }));
    const { directMs, torporMs, ratio, interval } = compare(pairs);
    expect([directMs, torporMs, ratio]).toEqual([12, 18, 1.5]);
    expect(interval[0]).toBeLessThanOrEqual(1.5);
    expect(interval[1]).toBeGreaterThanOrEqual(1.5);
  });

  it('is certain where all pairs agree', () => {
    const { interval } = compare([
      { direct: 100, torpor: 120 },
      { direct: 100, torpor: 120 },
    ]);
    expect(interval).toEqual([1.2, 1.2]);
  });
});
