import { describe, expect, it } from '@jest/globals';
import { forgotten } from './guest-memory.js';

const before = { nonce: 'a', count: 3, ticks: 100 };

describe('what a guest remembers', () => {
  it('goes on from where it was', () => {
    expect(forgotten(before, { nonce: 'a', count: 4, ticks: 100 })).toEqual([]);
  });

  it.each([
    [{ nonce: 'b' }, /another one/],
    [{ count: 3 }, /count went/],
    [{ ticks: 99 }, /ticks went/],
  ])('not: %j', (change, problem) => {
    expect(forgotten(before, { nonce: 'a', count: 4, ticks: 101, ...change })).toEqual([
      expect.stringMatching(problem),
    ]);
  });
});
