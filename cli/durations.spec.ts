import { describe, expect, it } from '@jest/globals';
import { age, remaining, seconds } from './durations.js';

describe('seconds', () => {
  it.each([
    [12, '0.01 s'],
    [9_994, '9.99 s'],
    [12_340, '12.3 s'],
    [65_000, '1 m 5 s'],
    [3_900_000, '1 h 5 m'],
  ])('%d ms is %s', (ms, text) => expect(seconds(ms)).toBe(text));
});

describe('age and remaining', () => {
  const now = Date.parse('2026-01-02T00:00:00Z');
  it('are rough, and never negative', () => {
    expect(age('2026-01-01T23:58:30Z', now)).toBe('1 m');
    expect(age('2026-01-03T00:00:00Z', now)).toBe('0 s');
    expect(remaining('2026-01-02T05:00:00Z', now)).toBe('5 h');
  });
});
