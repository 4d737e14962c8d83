import { describe, expect, it } from '@jest/globals';
import { deferred } from '../test/support/deferred.js';
import { ConsoleTrimming } from './console-trimming.js';

describe('the trimming of consoles', () => {
  it('begins at once and goes on, also after a failure, which is told', async () => {
    const third = deferred();
    let runs = 0;
    const told: object[] = [];
    const trim = async () => {
      runs += 1;
      if (runs === 3) third.resolve();
      if (runs === 1) throw new Error('no such disk');
    };
    const trimming = new ConsoleTrimming(trim, { warn: (fields) => told.push(fields) }, 1);
    trimming.start();
    await third.promise;
    await trimming.stop();
    expect(told).toEqual([{ err: new Error('no such disk') }]);
  });

  it('is over when it was stopped, the cut under way included', async () => {
    const [begun, mayEnd] = [deferred(), deferred()];
    let runs = 0;
    let ended = 0;
    const trim = async () => {
      runs += 1;
      begun.resolve();
      await mayEnd.promise;
      ended += 1;
    };
    const trimming = new ConsoleTrimming(trim, { warn: () => {} }, 1);
    trimming.start();
    await begun.promise;
    const stopped = trimming.stop();
    mayEnd.resolve();
    await stopped;
    expect([runs, ended]).toEqual([1, 1]);
  });
});
