import { describe, expect, it } from '@jest/globals';
import { planKills } from './kill-plan.js';

describe('planKills', () => {
  it('is the same for the same seed and another one for another', () => {
    expect(planKills(7, 20, 60)).toEqual(planKills(7, 20, 60));
    expect(planKills(7, 20, 60)).not.toEqual(planKills(8, 20, 60));
  });

  it('plans as many kills as asked, all within lives that are lived, in their order', () => {
    const plan = planKills(1, 50, 10);
    expect(plan).toHaveLength(50);
    expect(plan.every(({ life }) => life >= 0 && life < 10)).toBe(true);
    expect(plan.map(({ life }) => life)).toEqual(plan.map(({ life }) => life).toSorted((a, b) => a - b));
  });
});
