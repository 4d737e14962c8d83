import { describe, expect, it } from '@jest/globals';
import { SharedStart } from './shared-start.js';

describe('SharedStart', () => {
  it('makes one call for all who come while it is under way, and a new one afterwards', async () => {
    const shared = new SharedStart<number>();
    let calls = 0;
    const call = () => Promise.resolve((calls += 1));
    expect(await Promise.all([shared.join('a', call), shared.join('a', call), shared.join('b', call)])).toEqual([
      1, 1, 2,
    ]);
    expect(await shared.join('a', call)).toBe(3);
  });

  it('tells all of them why it failed, and tries again for the next', async () => {
    const shared = new SharedStart<number>();
    const failing = () => Promise.reject(new Error('no'));
    const both = await Promise.allSettled([shared.join('a', failing), shared.join('a', failing)]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(await shared.join('a', () => Promise.resolve(1))).toBe(1);
  });
});
