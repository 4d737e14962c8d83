import { describe, expect, it } from '@jest/globals';
import { merged, networkOf, parseCidr, rangeText, toDotted, toNumber } from './address-range.js';

describe('parseCidr', () => {
  it('reads a range from any address in it', () => {
    expect(parseCidr('10.96.7.9/16')).toEqual({ first: 0x0a600000, size: 65_536 });
    expect(parseCidr('255.255.255.252/30').size).toBe(4);
  });

  it('refuses what is no range, or too small or large a one', () => {
    for (const cidr of ['', '10.0.0.0', '10.0.0/16', '10.0.0.256/16', '10.0.0.0/31', '10.0.0.0/7', 'fd00::/64']) {
      expect(() => parseCidr(cidr)).toThrow(/is no IPv4 range/);
    }
  });
});

describe('ranges of addresses', () => {
  const range = (from: string, to: string) => ({ first: toNumber(from), last: toNumber(to) });

  it('are networks of any length', () => {
    expect(networkOf(toNumber('10.1.2.3'), 8)).toEqual(range('10.0.0.0', '10.255.255.255'));
    expect(networkOf(toNumber('192.0.2.7'), 32)).toEqual(range('192.0.2.7', '192.0.2.7'));
    expect(networkOf(toNumber('192.0.2.7'), 0)).toEqual(range('0.0.0.0', '255.255.255.255'));
  });

  it('are joined where they overlap or touch', () => {
    const given = [range('10.0.1.0', '10.0.1.255'), range('10.0.0.0', '10.0.0.255'), range('10.0.0.9', '10.0.0.10')];
    expect(merged([...given, range('10.0.3.0', '10.0.3.0')]).map(rangeText)).toEqual([
      '10.0.0.0-10.0.1.255',
      '10.0.3.0',
    ]);
    expect(given[1]).toEqual(range('10.0.0.0', '10.0.0.255'));
  });

  it('have addresses of four numbers below 256', () => {
    expect(toDotted(toNumber('203.0.113.9'))).toBe('203.0.113.9');
    for (const text of ['', '1.2.3', '1.2.3.256', '1.2.3.4.5', '1.2.3.x', '::1']) expect(toNumber(text)).toBeNaN();
  });
});
