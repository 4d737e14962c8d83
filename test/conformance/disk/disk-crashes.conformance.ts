import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Disk } from '../../../activities/host/ports.js';
import { type Death, DyingExec } from '../dying-exec.js';
import { type MachineDiskHarness, idsFor, makeDetached } from './disk-harness.js';

/** Emulated machines take a second for some commands, and there are many. */
const TIMEOUT_MS = 600_000;

interface Scenario {
  name: string;
  prepare(id: string): Promise<void>;
  act(disk: Disk, id: string, path: string, signal: AbortSignal): Promise<unknown>;
  /** By a worker that knows nothing of the one before. */
  verify(disk: Disk, id: string, path: string): Promise<void>;
}

/** A worker dies, or is told to stop, at each command of every method; the next one has to find its way. */
export function describeDiskCrashes(
  name: string,
  make: () => Promise<MachineDiskHarness>,
  deaths: readonly Death[] = ['before', 'after', 'abort'],
): void {
  describe(`Disk under a worker that dies: ${name}`, () => {
    const newId = idsFor('crash');
    let harness: MachineDiskHarness;
    let before: string[];
    beforeAll(async () => {
      harness = await make();
      await harness.put(harness.base, 1);
      before = await harness.things();
    });
    afterAll(async () => harness.dispose());

    const attachedWith = async (id: string, detached: number, attached: number): Promise<void> => {
      await makeDetached(harness, id, detached);
      await harness.put(await harness.disk.attach(id), attached);
    };
    const shows = async (disk: Disk, id: string, value: number): Promise<void> => {
      expect(await harness.get(await disk.attach(id))).toBe(value);
    };

    const scenarios: Scenario[] = [
      {
        name: 'create',
        prepare: async () => undefined,
        act: (disk, id, _path, signal) => disk.create(id, harness.base, signal),
        verify: async (disk, id) => expect(await harness.get(await disk.create(id, harness.base))).toBe(1),
      },
      {
        name: 'create, and never again',
        prepare: async () => undefined,
        act: (disk, id, _path, signal) => disk.create(id, harness.base, signal),
        verify: async () => undefined,
      },
      {
        name: 'attach',
        prepare: (id) => makeDetached(harness, id, 3),
        act: (disk, id, _path, signal) => disk.attach(id, signal),
        verify: (disk, id) => shows(disk, id, 3),
      },
      {
        name: 'attach after a killed attempt',
        prepare: (id) => attachedWith(id, 3, 4),
        act: (disk, id, _path, signal) => disk.attach(id, signal),
        verify: (disk, id) => shows(disk, id, 3),
      },
      {
        name: 'attach, rolled back',
        prepare: (id) => makeDetached(harness, id, 3),
        act: (disk, id, _path, signal) => disk.attach(id, signal),
        verify: async (disk, id) => {
          await disk.rollback(id);
          await disk.detach(id);
          await shows(disk, id, 3);
        },
      },
      {
        name: 'commit',
        prepare: (id) => attachedWith(id, 3, 4),
        act: (disk, id, _path, signal) => disk.commit(id, signal),
        verify: async (disk, id) => {
          await disk.commit(id);
          await shows(disk, id, 4);
        },
      },
      {
        name: 'rollback',
        prepare: (id) => attachedWith(id, 3, 4),
        act: (disk, id, _path, signal) => disk.rollback(id, signal),
        verify: async (disk, id) => {
          await disk.rollback(id);
          await shows(disk, id, 3);
        },
      },
      {
        name: 'detach',
        prepare: (id) => attachedWith(id, 3, 4),
        act: (disk, id, _path, signal) => disk.detach(id, signal),
        verify: async (disk, id) => {
          await disk.detach(id);
          await shows(disk, id, 4);
        },
      },
      {
        name: 'publish',
        prepare: (id) => attachedWith(id, 3, 4),
        act: (disk, id, path, signal) => disk.publish(id, path, signal),
        verify: async (disk, id, path) => {
          const { base } = await disk.publish(id, path);
          expect(await harness.get(base)).toBe(4);
        },
      },
      {
        name: 'remove',
        prepare: (id) => attachedWith(id, 3, 4),
        act: (disk, id, _path, signal) => disk.remove(id, signal),
        verify: async () => undefined,
      },
    ];

    /** False when the call ended without running an `n`th command. */
    async function dies(scenario: Scenario, death: Death, n: number): Promise<boolean> {
      const [id, path] = [newId(), harness.newPath()];
      await scenario.prepare(id);
      const dying = new DyingExec(harness.exec, n, death);
      const worker = await harness.restarted(dying);
      // An aborted call may also end well, if there was no way back any more.
      const ended = scenario.act(worker, id, path, dying.signal).catch((err: unknown) => {
        if (!dying.signal.aborted) throw err;
      });
      await Promise.race([ended, dying.died]);
      const next = await harness.restarted();
      try {
        await scenario.verify(next, id, path);
        // What is to be removed is found by looking.
        const left = (await harness.things()).filter((thing) => !before.includes(thing) && thing.includes(id));
        if (left.length > 0) expect(await next.list()).toContain(id);
        await next.remove(id);
        expect(await next.list()).not.toContain(id);
        await harness.removePublished(path);
        expect(await harness.things()).toEqual(before);
      } catch (err) {
        throw new Error(`${scenario.name}, death ${death} command ${n}: ${(err as Error).message}`, { cause: err });
      }
      return dying.reached;
    }

    it.each(scenarios)(
      'goes on after a death at each command of $name',
      async (scenario) => {
        for (const death of deaths) {
          for (let n = 1; await dies(scenario, death, n); n += 1) expect(n).toBeLessThan(100);
        }
      },
      TIMEOUT_MS,
    );
  });
}
