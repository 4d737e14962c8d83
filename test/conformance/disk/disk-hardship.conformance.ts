import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Disk } from '../../../activities/host/ports.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { type MachineDiskHarness, idsFor, makeDetached } from './disk-harness.js';

/** Emulated machines are slow, and a busy device is waited for. */
const TIMEOUT_MS = 120_000;
const METHODS = ['attach', 'find', 'commit', 'rollback', 'detach', 'remove'] as const;

/** Calls at once, callers that are wrong, and machines that have no room or are in use. */
export function describeDiskHardship(name: string, make: () => Promise<MachineDiskHarness>): void {
  describe(`Disk under hardship: ${name}`, () => {
    const newId = idsFor('hard');
    let harness: MachineDiskHarness;
    let disk: Disk;
    beforeAll(async () => {
      harness = await make();
      disk = harness.disk;
      await harness.put(harness.base, 1);
    });
    afterAll(async () => harness.dispose());

    it(
      'makes one disk, however often it is asked for at once',
      async () => {
        const id = newId();
        const before = await harness.things();
        const made = await Promise.all([1, 2, 3, 4].map(() => disk.create(id, harness.base)));
        expect(new Set(made.map(({ path }) => path)).size).toBe(1);
        expect(await harness.get(made[0] ?? { path: '', format: 'raw' })).toBe(1);
        await Promise.all([disk.remove(id), disk.remove(id)]);
        expect(await harness.things()).toEqual(before);
      },
      TIMEOUT_MS,
    );

    it(
      'serves many disks over one base at once',
      async () => {
        const before = await harness.things();
        const ids = [newId(), newId(), newId(), newId(), newId()];
        const each = <T>(work: (id: string, value: number) => Promise<T>): Promise<T[]> =>
          Promise.all(ids.map((id, index) => work(id, index + 10)));
        await each(async (id, value) => harness.put(await disk.create(id, harness.base), value));
        await each((id) => disk.detach(id));
        expect(await each(async (id) => harness.get(await disk.attach(id)))).toEqual([10, 11, 12, 13, 14]);
        await each(async (id, value) => (value % 2 === 0 ? disk.detach(id) : disk.rollback(id)));
        expect(await each(async (id) => harness.get(await disk.attach(id)))).toEqual([10, 11, 12, 13, 14]);
        await each((id) => disk.remove(id));
        expect(await harness.things()).toEqual(before);
      },
      TIMEOUT_MS,
    );

    it.each(['', '.', '../x', 'a/b', '-x', 'x'.repeat(65)])('refuses "%s" for an id', async (id) => {
      const refused = { code: 'invalid_request' };
      await expect(disk.create(id, harness.base)).rejects.toMatchObject(refused);
      for (const method of METHODS) await expect(disk[method](id)).rejects.toMatchObject(refused);
      await expect(disk.publish(id, harness.newPath())).rejects.toMatchObject(refused);
    });

    it('takes the longest id', async () => {
      const id = `${newId()}${'-x_'.repeat(21)}`.slice(0, 64);
      expect(id).toHaveLength(64);
      expect(await harness.get(await disk.create(id, harness.base))).toBe(1);
      await disk.remove(id);
    });

    it('has nothing to publish of a disk that is not there', async () => {
      await expect(disk.publish(newId(), harness.newPath())).rejects.toMatchObject({ code: 'not_found' });
    });

    it(
      'does not touch a disk that is in use',
      async () => {
        const id = newId();
        await makeDetached(harness, id, 3);
        const attached = await disk.attach(id);
        await disk.commit(id);
        const release = await harness.hold(attached);
        await expect(disk.attach(id)).rejects.toThrow();
        await release();
        expect(await harness.get(await disk.attach(id))).toBe(3);
        await disk.remove(id);
      },
      TIMEOUT_MS,
    );

    it(
      'says so when there is no room, and leaves nothing',
      async () => {
        const dir = await mkdtemp(join(tmpdir(), 'full-'));
        const exec = new ChildProcessExec();
        await exec.run(['mount', '-t', 'tmpfs', '-o', 'size=2m,mode=0755', 'small', dir]);
        try {
          await mkdir(join(dir, 'data'));
          const full = await harness.inDirectory(join(dir, 'data'));
          const id = newId();
          await full.create(id, harness.base);
          await full.detach(id);
          await fill(join(dir, 'filler'));
          const other = newId();
          await expect(full.create(other, harness.base)).rejects.toMatchObject({ code: 'disk_full' });
          expect(await full.list()).toEqual([id]);
          await rm(join(dir, 'filler'));
          expect(await harness.get(await full.attach(id))).toBe(1);
          await full.remove(id);
        } finally {
          await exec.run(['umount', dir]);
          await rm(dir, { recursive: true });
        }
      },
      TIMEOUT_MS,
    );
  });
}

/** To the last block. */
async function fill(path: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    for (;;) await file.write(Buffer.alloc(4096, 1));
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ENOSPC') throw err;
  } finally {
    await file.close();
  }
}
