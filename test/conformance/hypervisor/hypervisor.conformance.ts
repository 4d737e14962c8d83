import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Hypervisor, VmSpec } from '../../../activities/host/ports.js';
import type { HarnessFiles } from '../harness-files.js';
import { type SavedMemoryFiles, savedInFiles } from './saved-memory-files.js';

/** Guests boot under emulation on busy machines; how long that takes is for a bench to say. */
const PATIENCE_MS = 900_000;
const AWAY_MS = 3_000;
/** Seconds; it is told with two digits. */
const UPTIME_SLACK = 0.05;

/** What a test sees of the inside of a guest. */
export interface GuestView {
  /** Waits until the guest answers. */
  awake(): Promise<void>;
  answersWithin(ms: number): Promise<boolean>;
  /** Differs for every cold boot. */
  bootId(): Promise<string>;
  /** Seconds for which the guest has run. */
  uptime(): Promise<number>;
  /** Keeps a text in memory only. */
  remember(text: string): Promise<void>;
  remembered(): Promise<string>;
}

export interface HypervisorHarness {
  hypervisor: Hypervisor;
  id: string;
  spec: VmSpec;
  guest: GuestView;
  files: HarnessFiles;
  /** For drivers that do not save single files. */
  savedMemory?: SavedMemoryFiles;
  /** Less than any whole memory of this guest; a save of nothing would be shorter. */
  leastMemoryBytes: number;
  /** A second instance of the driver, as after a restart of the worker. */
  restarted(): Promise<Hypervisor>;
  /** A path for saved memory. */
  newPath(): string;
  /** Processes, files and groups of the VM; empty when nothing of it is left. */
  leftovers(): Promise<string[]>;
  dispose(): Promise<void>;
}

/**
 * Every driver of `Hypervisor` must pass this. One guest is booted and then frozen,
 * saved, killed and restored, as booting is slow: the cases run in this order.
 */
export function describeHypervisorConformance(name: string, make: () => Promise<HypervisorHarness>): void {
  describe(`Hypervisor: ${name}`, () => {
    let harness: HypervisorHarness;
    let hypervisor: Hypervisor;
    let guest: GuestView;
    let files: HarnessFiles;
    let memory: SavedMemoryFiles;
    let id: string;
    let saved: { file: string; bootId: string };

    beforeAll(async () => {
      harness = await make();
      ({ hypervisor, guest, files, id } = harness);
      memory = harness.savedMemory ?? savedInFiles(files);
    }, PATIENCE_MS);
    afterAll(async () => {
      await hypervisor.kill(id);
      await harness.dispose();
    }, PATIENCE_MS);

    async function save(): Promise<string> {
      const file = harness.newPath();
      await hypervisor.freeze(id);
      await hypervisor.save(id, file);
      return file;
    }

    it('knows nothing of a VM that was never started', async () => {
      expect(await hypervisor.status(id)).toBe('absent');
      expect(await hypervisor.list()).not.toContain(id);
      await hypervisor.kill(id);
      for (const call of ['freeze', 'unfreeze'] as const) {
        await expect(hypervisor[call](id)).rejects.toMatchObject({ code: 'not_found' });
      }
      await expect(hypervisor.save(id, harness.newPath())).rejects.toMatchObject({ code: 'not_found' });
      await expect(hypervisor.consoleLog(id, 100)).rejects.toMatchObject({ code: 'not_found' });
      await hypervisor.awaitMemory(id);
    });

    it(
      'leaves nothing of a VM whose start is cancelled',
      async () => {
        for (const afterMs of [0, 20, 60]) {
          const outcome = await hypervisor.start(id, harness.spec, AbortSignal.timeout(afterMs)).then(
            () => 'started',
            () => 'cancelled',
          );
          if (outcome === 'started') await hypervisor.kill(id);
          expect(await hypervisor.status(id)).toBe('absent');
          expect(await harness.leftovers()).toEqual([]);
        }
      },
      PATIENCE_MS,
    );

    it(
      'leaves nothing of a VM that cannot start',
      async () => {
        const disk = { ...harness.spec.disk, path: harness.newPath() };
        await expect(hypervisor.start(id, { ...harness.spec, disk })).rejects.toMatchObject({
          code: 'not_found',
          message: expect.stringContaining(disk.path),
        });
        await files.write(disk.path, 'neither raw nor qcow2');
        await expect(hypervisor.start(id, { ...harness.spec, disk })).rejects.toThrow(/did not start/);
        await files.remove(disk.path);
        expect(await harness.leftovers()).toEqual([]);
      },
      PATIENCE_MS,
    );

    it(
      'boots a guest',
      async () => {
        await hypervisor.start(id, harness.spec);
        expect(await hypervisor.status(id)).toBe('running');
        expect(await hypervisor.list()).toContain(id);
        await guest.awake();
      },
      PATIENCE_MS,
    );

    it('leaves a running VM alone when it is started again', async () => {
      const before = await guest.bootId();
      await hypervisor.start(id, harness.spec);
      await (await harness.restarted()).start(id, harness.spec);
      expect(await guest.bootId()).toBe(before);
    });

    it(
      'freezes and unfreezes, each any number of times',
      async () => {
        await hypervisor.freeze(id);
        await hypervisor.freeze(id);
        expect(await hypervisor.status(id)).toBe('frozen');
        expect(await guest.answersWithin(500)).toBe(false);
        await expect(hypervisor.start(id, harness.spec)).rejects.toMatchObject({ code: 'state_conflict' });
        await hypervisor.unfreeze(id);
        await hypervisor.unfreeze(id);
        expect(await hypervisor.status(id)).toBe('running');
        await guest.awake();
      },
      PATIENCE_MS,
    );

    it('saves only what stands still', async () => {
      await expect(hypervisor.save(id, harness.newPath())).rejects.toMatchObject({ code: 'state_conflict' });
      expect(await hypervisor.status(id)).toBe('running');
    });

    it(
      'goes on after a save, with the memory it had',
      async () => {
        await guest.remember('before the save');
        const bootId = await guest.bootId();
        await hypervisor.freeze(id);
        const file = harness.newPath();
        const { bytes, sha256 } = await hypervisor.save(id, file);
        expect(await hypervisor.status(id)).toBe('frozen');
        expect(await memory.measure(file)).toEqual({ bytes, sha256 });

        await hypervisor.unfreeze(id);
        await guest.awake();
        expect([await guest.bootId(), await guest.remembered()]).toEqual([bootId, 'before the save']);
        saved = { file, bootId };
        await guest.remember('after the save');
      },
      PATIENCE_MS,
    );

    it(
      'saves a second time what was saved before',
      async () => {
        await hypervisor.freeze(id);
        const paths = [harness.newPath(), harness.newPath()];
        for (const path of paths) {
          expect((await hypervisor.save(id, path)).bytes).toBeGreaterThan(harness.leastMemoryBytes);
        }
        await hypervisor.unfreeze(id);
        await guest.awake();
        for (const path of paths) await memory.remove(path);
      },
      PATIENCE_MS,
    );

    it(
      'runs on after a save that was cancelled, by signal or by unfreeze',
      async () => {
        for (const how of ['signal', 'unfreeze', 'unfreeze by another'] as const) {
          await hypervisor.freeze(id);
          const controller = new AbortController();
          const file = harness.newPath();
          const outcome = hypervisor.save(id, file, controller.signal).then(
            () => 'saved',
            () => 'ended',
          );
          await appears(files, file);
          if (how === 'signal') controller.abort(new Error('cancelled'));
          await (how === 'unfreeze by another' ? await harness.restarted() : hypervisor).unfreeze(id);
          expect(['saved', 'ended']).toContain(await outcome);
          await hypervisor.unfreeze(id);
          expect([how, await hypervisor.status(id)]).toEqual([how, 'running']);
          await guest.awake();
          await memory.remove(file);
        }
        expect(await guest.bootId()).toBe(saved.bootId);
      },
      PATIENCE_MS,
    );

    it(
      'runs on after a save that failed',
      async () => {
        await hypervisor.freeze(id);
        await expect(hypervisor.save(id, `${harness.newPath()}/no/such/directory`)).rejects.toThrow(
          /no\/such\/directory/,
        );
        expect(await hypervisor.status(id)).toBe('frozen');
        await hypervisor.unfreeze(id);
        await guest.awake();
        expect(await hypervisor.status(id)).toBe('running');
      },
      PATIENCE_MS,
    );

    it('is found, frozen and killed by a worker that did not start it', async () => {
      const other = await harness.restarted();
      expect(await other.status(id)).toBe('running');
      expect(await other.list()).toContain(id);
      await other.freeze(id);
      expect(await hypervisor.status(id)).toBe('frozen');
      await other.kill(id);
      await other.kill(id);
      expect(await hypervisor.status(id)).toBe('absent');
      expect(await hypervisor.list()).not.toContain(id);
      expect(await harness.leftovers()).toEqual([]);
    });

    it(
      'restores saved memory as often as one likes',
      async () => {
        for (const attempt of [1, 2]) {
          await hypervisor.start(id, { ...harness.spec, memoryFile: saved.file });
          expect([attempt, await hypervisor.status(id)]).toEqual([attempt, 'running']);
          await guest.awake();
          expect([await guest.bootId(), await guest.remembered()]).toEqual([saved.bootId, 'before the save']);
          await guest.remember('changed by a restored guest');
          if (attempt === 1) await hypervisor.kill(id);
        }
      },
      PATIENCE_MS,
    );

    it(
      'needs saved memory no more once it says so, and does not mind being asked',
      async () => {
        for (const round of [1, 2]) {
          await hypervisor.freeze(id);
          const file = harness.newPath();
          await hypervisor.save(id, file);
          await hypervisor.kill(id);
          await hypervisor.start(id, { ...harness.spec, memoryFile: file });
          // One that was told to stop waiting says so, or was done before it heard.
          await hypervisor.awaitMemory(id, AbortSignal.abort(new Error('enough'))).catch((err: unknown) => {
            expect(String(err)).toContain('enough');
          });
          // Of one that stands still no page is asked for; the rest comes by itself.
          if (round === 2) await hypervisor.freeze(id);
          await Promise.all([hypervisor.awaitMemory(id), (await harness.restarted()).awaitMemory(id)]);
          await memory.remove(file);
          await hypervisor.unfreeze(id);
          await guest.awake();
          expect([await guest.bootId(), await guest.remembered()]).toEqual([
            saved.bootId,
            'changed by a restored guest',
          ]);
        }
      },
      PATIENCE_MS,
    );

    it(
      'saves a restored guest and restores that, at the time at which it stood',
      async () => {
        const begun = performance.now();
        const before = await guest.uptime();
        await guest.remember('second generation');
        const file = await save();
        await hypervisor.kill(id);
        // A clock that goes on without its guest shows by this alone.
        await delay(AWAY_MS);
        await hypervisor.start(id, { ...harness.spec, memoryFile: file });
        await guest.awake();
        expect([await guest.bootId(), await guest.remembered()]).toEqual([saved.bootId, 'second generation']);
        const ran = (await guest.uptime()) - before;
        expect(ran).toBeGreaterThanOrEqual(0);
        expect(ran).toBeLessThanOrEqual((performance.now() - begun - AWAY_MS) / 1000 + UPTIME_SLACK);
        await hypervisor.kill(id);
        await memory.remove(file);
      },
      PATIENCE_MS,
    );

    it(
      'refuses memory that is torn, missing or not memory at all, and leaves nothing of the attempt',
      async () => {
        const torn = harness.newPath();
        await memory.tear(saved.file, torn);
        const nonsense = harness.newPath();
        await files.write(nonsense, Buffer.alloc(1_000_000, 'nonsense'));
        for (const memoryFile of [torn, nonsense]) {
          await expect(hypervisor.start(id, { ...harness.spec, memoryFile })).rejects.toMatchObject({
            code: 'snapshot_corrupt',
            message: expect.stringContaining(memoryFile),
          });
          expect(await hypervisor.status(id)).toBe('absent');
          expect(await harness.leftovers()).toEqual([]);
        }
        const memoryFile = harness.newPath();
        await expect(hypervisor.start(id, { ...harness.spec, memoryFile })).rejects.toThrow(memoryFile);
        expect(await harness.leftovers()).toEqual([]);
      },
      PATIENCE_MS,
    );

    it('keeps what the guest printed, of which the end can be read', async () => {
      const log = await hypervisor.consoleLog(id, 1_000_000);
      expect((await hypervisor.consoleLog(id, 10)).length).toBeLessThanOrEqual(10);
      expect(log.endsWith(await hypervisor.consoleLog(id, 10))).toBe(true);
    });
  });
}

/** The save has begun to write. */
async function appears(files: HarnessFiles, path: string): Promise<void> {
  for (let attempt = 0; attempt < 10_000 && (await files.size(path)) === 0; attempt += 1);
}
