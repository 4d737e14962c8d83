import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import type { Boundary } from './boundary.js';
import { nameOf } from './boundary.js';
import { Director } from './director.js';
import { HoldPoints } from './hold-points.js';

const after = (step: string, occurrence = 1): Boundary => ({ process: 'host-worker', step, occurrence, edge: 'after' });

describe('director', () => {
  let directory: string;
  let director: Director;
  const done: string[] = [];
  const steps = {
    killVm: async ({ sandboxId }: { sandboxId: string }) => void done.push(sandboxId),
    look: async () => void done.push('looked'),
  };
  const activities = async () => (await HoldPoints.open('host-worker', director.socketPath)).around(steps);
  const run = (work: (input: { sandboxId: string }) => Promise<void>, sandboxId: string) =>
    new MockActivityEnvironment().run(() => work({ sandboxId }));

  beforeEach(async () => {
    done.length = 0;
    directory = await mkdtemp(join(tmpdir(), 'director-'));
    director = await Director.listen(join(directory, 'socket'));
  });
  afterEach(async () => {
    await director.close();
    await rm(directory, { recursive: true });
  });

  it('lets pass whom nobody wants held, and whoever is about no sandbox', async () => {
    const { killVm, look } = await activities();
    await run(killVm, 'a');
    await look();
    expect(done).toEqual(['a', 'looked']);
  });

  it('holds one at its boundary, with its work done, until it is released', async () => {
    const { killVm } = await activities();
    const track = director.watch('a', after('killVm'));
    let answered = false;
    const held = run(killVm, 'a').then(() => (answered = true));
    await track.reached;
    expect(done).toEqual(['a']);
    expect(answered).toBe(false);
    expect(track.passages.map(({ wentOn }) => wentOn)).toEqual([true, false]);
    track.release();
    await held;
    expect(track.passages.map(nameOf)).toEqual(['before killVm', 'after killVm']);
    expect(track.passages.map(({ wentOn }) => wentOn)).toEqual([true, true]);
  });

  it('knows that whoever was held in a process that was killed never went on', async () => {
    const { killVm } = await activities();
    const track = director.watch('a', after('killVm'));
    const held = run(killVm, 'a');
    await track.reached;
    track.release('host-worker');
    expect(track.passages.map(({ edge, wentOn }) => [edge, wentOn])).toEqual([
      ['before', true],
      ['after', false],
    ]);
    // As for the worker it was not killed at all here, it is let go by the director's end.
    await director.close();
    await held;
    director = await Director.listen(join(directory, 'socket'));
  });

  it('holds later attempts of a step too, and counts those before', async () => {
    const { killVm } = await activities();
    const track = director.watch('a', after('killVm', 2));
    await run(killVm, 'a');
    const second = run(killVm, 'a');
    const third = run(killVm, 'a');
    await track.reached;
    expect(track.passages.filter(({ held }) => held).length).toBeGreaterThanOrEqual(1);
    track.release();
    await Promise.all([second, third]);
    expect(track.passages.map(nameOf)).toContain('after killVm #3');
  });

  it('holds those of another machine, who come over the loopback', async () => {
    const port = await director.listenOnLoopback();
    const { killVm } = (await HoldPoints.open('host-worker', `127.0.0.1:${port}`)).around(steps);
    const track = director.watch('a', after('killVm'));
    const held = run(killVm, 'a');
    await track.reached;
    track.release();
    await held;
    expect(track.passages.map(nameOf)).toEqual(['before killVm', 'after killVm']);
  });

  it('holds nobody once it is gone', async () => {
    const { killVm } = await activities();
    const track = director.watch('a', after('killVm'));
    const held = run(killVm, 'a');
    await track.reached;
    await director.close();
    await held;
    await run(killVm, 'b');
    expect(done).toEqual(['a', 'b']);
    director = await Director.listen(join(directory, 'socket'));
  });
});
