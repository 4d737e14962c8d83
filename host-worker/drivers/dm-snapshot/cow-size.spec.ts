import { describe, expect, it } from '@jest/globals';
import { fullCowBytes, grownCowBytes, newCowBytes } from './cow-size.js';
import { usageOf } from './cow-usage.js';

const MIB = 2 ** 20;
/** 64 MiB: 16384 chunks, 64 areas that describe them and the next one, and a header. */
const SECTORS = 131_072;
const FULL = (16_384 + 65 + 1) * 4096;

describe('the size of a CoW file', () => {
  it('has room for every chunk and for what describes them', () => {
    expect(fullCowBytes(SECTORS)).toBe(FULL);
    expect(fullCowBytes(1)).toBe(3 * 4096);
  });

  it('is what the policy says, in whole chunks, and never more than can be used', () => {
    expect(newCowBytes(SECTORS, {})).toBe(FULL);
    expect(newCowBytes(SECTORS, { bytes: 8 * MIB + 1 })).toBe(8 * MIB + 4096);
    expect(newCowBytes(SECTORS, { bytes: 1024 * MIB })).toBe(FULL);
  });

  it('grows by steps up to that, where it may', () => {
    expect(grownCowBytes(8 * MIB, SECTORS, { growBytes: 4 * MIB })).toBe(12 * MIB);
    expect(grownCowBytes(63 * MIB, SECTORS, { growBytes: 4 * MIB })).toBe(FULL);
    expect(grownCowBytes(FULL, SECTORS, { growBytes: 4 * MIB })).toBeUndefined();
    expect(grownCowBytes(8 * MIB, SECTORS, {})).toBeUndefined();
  });
});

describe('how full it is', () => {
  const used = (share: number, cowBytes = 8 * MIB) =>
    usageOf('x', {
      ...{ state: 'valid', sectors: SECTORS },
      ...{ usedSectors: Math.ceil((cowBytes / 512) * share), cowSectors: cowBytes / 512 },
    }).level;

  it('is worth a warning from 80 % on and full from 95 % on', () => {
    expect([0.79, 0.8, 0.94, 0.95, 1].map((share) => used(share))).toEqual(['ok', 'warn', 'warn', 'full', 'full']);
  });

  it('does not matter where all of the base fits in', () => {
    expect(used(1, FULL)).toBe('ok');
  });

  it('is full after an overflow, of which the kernel gives no numbers', () => {
    expect(usageOf('x', { state: 'overflow', sectors: SECTORS, usedSectors: 0, cowSectors: 0 }).level).toBe('full');
  });
});
