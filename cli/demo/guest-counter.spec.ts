import { describe, expect, it } from '@jest/globals';
import { parseReading } from './guest-counter.js';
import { clockErrorMs } from './story.js';

describe('parseReading', () => {
  it('reads count, process, uptime and clock', () => {
    expect(parseReading('17 121.443 12.5 1763800000.250000000\n')).toEqual({
      count: 17,
      process: '121.443',
      uptime: 12.5,
      guestMs: 1_763_800_000_250,
    });
  });

  it.each(['', '17', ' 121.443 1 1', '17 121. 1.0 1', 'x 1.2 1 1'])('refuses %j', (output) => {
    expect(() => parseReading(output)).toThrow('cannot be read');
  });
});

describe('clockErrorMs', () => {
  const reading = { count: 1, process: '1.1', uptime: 1, hostBeforeMs: 1_000, hostAfterMs: 1_200 };
  it.each([
    [1_100, 0],
    [900, 100],
    [4_200, 3_000],
  ])('guest clock %d is off by %d', (guestMs, off) => expect(clockErrorMs({ ...reading, guestMs })).toBe(off));
});
