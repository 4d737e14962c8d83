import { describe, expect, it } from '@jest/globals';
import { missingCapabilities } from './machine-facts.js';

describe('missingCapabilities', () => {
  it('finds all in the set of root', () => {
    expect(missingCapabilities('CapInh:\t0\nCapEff:\t000001ffffffffff\n')).toEqual([]);
  });

  it('names those that a container took away', () => {
    // What container engines leave to root by default.
    expect(missingCapabilities('CapEff:\t00000000a80425fb\n')).toEqual(['CAP_NET_ADMIN', 'CAP_SYS_ADMIN']);
  });

  it('takes nothing for granted when the line is missing', () => {
    expect(missingCapabilities('')).toContain('CAP_NET_ADMIN');
  });
});
