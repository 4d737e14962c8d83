import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { EventLog, parseEvents, storyOf } from './event-log.js';

const event = (name: string, source = 'vm'): string =>
  `${JSON.stringify({ timestamp: { secs: 1, nanos: 5 }, source, event: name, properties: null }, null, 2)}\n\n`;

describe('the events of a VMM', () => {
  it('are read up to one that is still being written, and after one that was cut', () => {
    const text = event('booted').slice(20) + event('pausing') + event('paused') + event('resuming').slice(0, 30);
    expect(parseEvents(text)).toEqual([
      { source: 'vm', event: 'pausing' },
      { source: 'vm', event: 'paused' },
    ]);
    expect(parseEvents('')).toEqual([]);
  });

  it.each([
    [[], { cpus: 'none', rebooted: false }],
    [['booting', 'booted'], { cpus: 'running', rebooted: false }],
    [['restoring', 'restored'], { cpus: 'paused', rebooted: false }],
    [['restoring', 'restored', 'resuming', 'resumed'], { cpus: 'running', rebooted: false }],
    [['booted', 'pausing', 'paused', 'snapshotting', 'snapshotted'], { cpus: 'paused', rebooted: false }],
    [['booted', 'shutdown', 'deleted'], { cpus: 'none', rebooted: false }],
    [['booted', 'rebooting', 'rebooted'], { cpus: 'running', rebooted: true }],
  ])('%j tell %j', (names, story) => {
    expect(storyOf(parseEvents(names.map((name) => event(name)).join('')))).toEqual(story);
  });

  it('of devices tell nothing of virtual CPUs', () => {
    expect(storyOf(parseEvents(event('booted') + event('paused', 'virtio-device')))).toMatchObject({ cpus: 'running' });
  });
});

describe('the file of events', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'events-'));
  });
  afterAll(() => rm(dir, { recursive: true }));

  it('tells nothing when there is none', async () => {
    const log = new EventLog(join(dir, 'missing'));
    expect(await log.story()).toEqual({ cpus: 'none', rebooted: false });
    await log.trim();
  });

  it('is watched, and ends to be', async () => {
    const path = join(dir, 'watched');
    const log = new EventLog(path);
    const handle = await log.openForVmm();
    let end = (): void => {};
    const seen = new Promise<void>((resolve) => (end = log.watch(resolve)));
    await handle.writeFile(event('booted'));
    await seen;
    end();
    await handle.close();
    expect(await log.story()).toMatchObject({ cpus: 'running' });
  });

  it('is cut when a guest makes events without end, and goes on behind what is kept', async () => {
    const path = join(dir, 'long');
    const log = new EventLog(path);
    const vmm = await log.openForVmm();
    await vmm.writeFile(event('reset', 'virtio-device').repeat(12_000));
    await vmm.writeFile(event('paused'));
    await log.trim();
    expect((await stat(path)).size).toBeLessThan(70_000);
    expect(await log.story()).toMatchObject({ cpus: 'paused' });
    await vmm.writeFile(event('resumed'));
    await vmm.close();
    expect(await log.story()).toMatchObject({ cpus: 'running' });
  });
});
