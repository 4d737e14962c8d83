import { describe, expect, it } from '@jest/globals';
import { Backoff } from './backoff.js';

describe('Backoff', () => {
  it('doubles from 1 s to 30 s', () => {
    const backoff = new Backoff();
    expect(Array.from({ length: 8 }, () => backoff.next(0))).toEqual([
      1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000,
    ]);
  });

  it('begins again after a minute of service', () => {
    const backoff = new Backoff();
    for (let i = 0; i < 5; i++) backoff.next(59_999);
    expect(backoff.next(60_000)).toBe(1000);
    expect(backoff.next(0)).toBe(2000);
  });
});
