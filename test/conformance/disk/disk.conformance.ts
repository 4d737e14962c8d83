import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Disk } from '../../../activities/host/ports.js';
import { type DiskHarness, idsFor, makeDetached } from './disk-harness.js';

/** Every driver of `Disk` must pass this. */
export function describeDiskConformance(name: string, make: () => Promise<DiskHarness>): void {
  describe(`Disk: ${name}`, () => {
    let harness: DiskHarness;
    let disk: Disk;
    const newId = idsFor('disk');

    beforeAll(async () => {
      harness = await make();
      disk = harness.disk;
    });
    afterAll(async () => harness.dispose());

    const detached = (id: string, value: number): Promise<void> => makeDetached(harness, id, value);

    it('creates a disk that shows its base and leaves it untouched', async () => {
      const id = newId();
      await harness.put(harness.base, 1);
      const made = await disk.create(id, harness.base);
      expect(await harness.get(made)).toBe(1);
      await harness.put(made, 2);
      expect(await harness.get(made)).toBe(2);
      expect(await harness.get(harness.base)).toBe(1);
    });

    it('creates once: the second time it returns what exists', async () => {
      const id = newId();
      const made = await disk.create(id, harness.base);
      await harness.put(made, 7);
      expect(await disk.create(id, harness.base)).toEqual(made);
      expect(await harness.get(made)).toBe(7);
    });

    it('finds and lists what exists, also after a restart', async () => {
      const id = newId();
      expect(await disk.find(id)).toBeUndefined();
      const made = await disk.create(id, harness.base);
      expect(await (await harness.restarted()).find(id)).toEqual(made);
      expect(await (await harness.restarted()).list()).toContain(id);
    });

    it('keeps the data over detach and attach', async () => {
      const id = newId();
      await detached(id, 3);
      expect(await harness.get(await disk.attach(id))).toBe(3);
    });

    it('rolls back what was written since attach', async () => {
      const id = newId();
      await detached(id, 3);
      const attached = await disk.attach(id);
      await harness.put(attached, 4);
      await disk.rollback(id);
      expect(await harness.get(attached)).toBe(3);
      await disk.rollback(id);
      expect(await harness.get(attached)).toBe(3);
    });

    it('undoes a killed attempt when attached again, by whichever worker', async () => {
      const id = newId();
      await detached(id, 3);
      await harness.put(await disk.attach(id), 4);
      const again = await (await harness.restarted()).attach(id);
      expect(await harness.get(again)).toBe(3);
      await harness.put(again, 5);
      await disk.rollback(id);
      expect(await harness.get(again)).toBe(3);
    });

    it('keeps what was committed, whatever comes next', async () => {
      for (const next of ['attach', 'detach', 'rollback'] as const) {
        const id = newId();
        await detached(id, 3);
        const attached = await disk.attach(id);
        await harness.put(attached, 4);
        await disk.commit(id);
        await disk.commit(id);
        await (await harness.restarted())[next](id);
        expect([next, await harness.get(attached)]).toEqual([next, 4]);
      }
    });

    it('protects each attach anew', async () => {
      const id = newId();
      await detached(id, 1);
      for (const value of [2, 3, 4]) {
        const attached = await disk.attach(id);
        await harness.put(attached, value);
        await disk.commit(id);
        await disk.detach(id);
      }
      const attached = await disk.attach(id);
      expect(await harness.get(attached)).toBe(4);
      await harness.put(attached, 9);
      await disk.rollback(id);
      expect(await harness.get(attached)).toBe(4);
    });

    it('counts everything written as data once it is detached', async () => {
      const id = newId();
      await detached(id, 1);
      await harness.put(await disk.attach(id), 2);
      await disk.detach(id);
      await disk.rollback(id);
      expect(await harness.get(await disk.attach(id))).toBe(2);
    });

    it('removes what exists and accepts what does not', async () => {
      const id = newId();
      await disk.create(id, harness.base);
      await disk.remove(id);
      await disk.remove(id);
      expect(await disk.find(id)).toBeUndefined();
      expect(await disk.list()).not.toContain(id);
      await disk.detach(id);
      await disk.rollback(id);
      await expect(disk.attach(id)).rejects.toMatchObject({ code: 'not_found' });
      await expect(disk.commit(id)).rejects.toMatchObject({ code: 'not_found' });
    });

    it('publishes a disk as a base for others', async () => {
      const [id, overIt] = [newId(), newId()];
      const path = harness.newPath();
      await detached(id, 5);
      const published = await disk.publish(id, path);
      expect(published.base.path).toBe(path);
      expect(published.bytes).toBeGreaterThan(0);
      expect(await disk.find(id)).toBeUndefined();
      expect(await disk.list()).not.toContain(id);
      expect(await disk.publish(id, path)).toEqual(published);

      const made = await disk.create(overIt, published.base);
      expect(await harness.get(made)).toBe(5);
      await harness.put(made, 6);
      await disk.detach(overIt);
      const attached = await disk.attach(overIt);
      expect([await harness.get(attached), await harness.get(published.base)]).toEqual([6, 5]);
    });

    it('names a missing base', async () => {
      const id = newId();
      const base = { ...harness.base, path: harness.newPath() };
      await expect(disk.create(id, base)).rejects.toMatchObject({
        code: 'not_found',
        message: expect.stringContaining(base.path),
      });
      expect(await disk.list()).not.toContain(id);
    });

    it('stops at an aborted signal and leaves nothing half-made', async () => {
      const id = newId();
      await expect(disk.create(id, harness.base, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
      expect(await disk.find(id)).toBeUndefined();
      expect(await disk.list()).not.toContain(id);
    });
  });
}
