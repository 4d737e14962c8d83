import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildArtefact } from '../../../activities/host/contract.js';
import type { BuildStore, DiskBase } from '../../../activities/host/ports.js';
import type { HarnessFiles } from '../harness-files.js';

export interface BuildStoreHarness {
  store: BuildStore;
  files: HarnessFiles;
  /** A second instance, as after a restart of the worker. */
  restarted(): BuildStore;
  dispose(): Promise<void>;
}

type Write = Parameters<BuildStore['save']>[1];

const artefact: BuildArtefact = { memoryBytes: 6, diskBytes: 4096, hypervisor: 'qemu 7.2', cpu: 'tcg:max' };

/** What publishing a build would write. */
export function publishesTo(files: HarnessFiles): Write {
  return async ({ memoryFile, diskFile }) => {
    await files.write(memoryFile, 'memory');
    await files.write(diskFile, 'disk');
    const disk: DiskBase = { path: diskFile, format: 'qcow2' };
    return { ...artefact, disk, sha256: createHash('sha256').update('memory').digest('hex') };
  };
}

/** Every `BuildStore` must pass this. */
export function describeBuildStoreConformance(name: string, make: () => Promise<BuildStoreHarness>): void {
  describe(`BuildStore: ${name}`, () => {
    let harness: BuildStoreHarness;
    let store: BuildStore;
    let files: HarnessFiles;
    let publishes: Write;
    const textOf = async (path: string): Promise<string> => (await files.read(path)).toString();
    beforeAll(async () => {
      harness = await make();
      ({ store, files } = harness);
      publishes = publishesTo(files);
    });
    afterAll(async () => harness.dispose());

    it('finds what was published, also after a restart', async () => {
      expect(await store.save('one', publishes)).toEqual(artefact);
      const restarted = harness.restarted();
      const found = await restarted.find('one');
      expect(found.artefact).toEqual(artefact);
      expect(found.disk.format).toBe('qcow2');
      expect(await textOf(found.disk.path)).toBe('disk');
      expect(await textOf(await restarted.memoryFile('one'))).toBe('memory');
      expect(await store.list()).toContain('one');
    });

    it('publishes once', async () => {
      await store.save('two', publishes);
      const never = (): Promise<never> => Promise.reject(new Error('published twice'));
      expect(await harness.restarted().save('two', never)).toEqual(artefact);
    });

    it('keeps what an interrupted attempt has moved, for the next one', async () => {
      const breaks: Write = async ({ diskFile }) => {
        await files.write(diskFile, 'the only copy');
        throw new Error('broke');
      };
      await expect(store.save('three', breaks)).rejects.toThrow('broke');
      await expect(store.find('three')).rejects.toMatchObject({ code: 'not_found' });
      expect(await store.list()).toContain('three');
      const goesOn: Write = async (paths) => {
        expect(await textOf(paths.diskFile)).toBe('the only copy');
        return publishes(paths);
      };
      expect(await harness.restarted().save('three', goesOn)).toEqual(artefact);
    });

    it('refuses a build without its disk', async () => {
      const forgets: Write = async (paths) => ({
        ...(await publishes(paths)),
        disk: { path: `${paths.diskFile}x`, format: 'raw' },
      });
      await expect(store.save('four', forgets)).rejects.toMatchObject({ code: 'snapshot_corrupt' });
      await expect(store.find('four')).rejects.toMatchObject({ code: 'not_found' });
    });

    it('deletes published and begun builds, and accepts absence', async () => {
      await store.save('five', publishes);
      await expect(store.save('six', () => Promise.reject(new Error('broke')))).rejects.toThrow('broke');
      for (const id of ['five', 'six', 'five', 'seven']) await store.delete(id);
      await expect(store.find('five')).rejects.toMatchObject({ code: 'not_found' });
      const left = await store.list();
      expect(left).not.toContain('five');
      expect(left).not.toContain('six');
    });
  });
}
