import { describe, expect, it } from '@jest/globals';
import { deferred } from '../test/support/deferred.js';
import { Upkeep } from './upkeep.js';

describe('upkeep', () => {
  it('begins at once and goes on, also after a failure, which is told and keeps no other task from its turn', async () => {
    const third = deferred();
    const runs = { consoles: 0, disks: 0 };
    const told: object[] = [];
    const consoles = async () => {
      runs.consoles += 1;
      if (runs.consoles === 1) throw new Error('no such disk');
    };
    const disks = async () => {
      runs.disks += 1;
      if (runs.disks === 3) third.resolve();
    };
    const tasks = [
      { name: 'consoles', run: consoles },
      { name: 'disks', run: disks },
    ];
    const upkeep = new Upkeep(tasks, { warn: (fields) => told.push(fields) }, 1);
    upkeep.start();
    await third.promise;
    await upkeep.stop();
    expect(told).toEqual([{ err: new Error('no such disk'), upkeep: 'consoles' }]);
    expect(runs.consoles).toBe(3);
  });

  it('is over when it was stopped, the task under way included and no other begun', async () => {
    const [begun, mayEnd] = [deferred(), deferred()];
    const events: string[] = [];
    const slow = async () => {
      events.push('begun');
      begun.resolve();
      await mayEnd.promise;
      events.push('ended');
    };
    const next = async () => {
      events.push('next');
    };
    const tasks = [
      { name: 'slow', run: slow },
      { name: 'next', run: next },
    ];
    const upkeep = new Upkeep(tasks, { warn: () => {} }, 1);
    upkeep.start();
    await begun.promise;
    const stopped = upkeep.stop();
    mayEnd.resolve();
    await stopped;
    expect(events).toEqual(['begun', 'ended']);
  });
});
