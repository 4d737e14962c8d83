import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { SnapshotStore } from '../../../activities/host/ports.js';
import type { HarnessFiles } from '../harness-files.js';

export interface SnapshotStoreHarness {
  store: SnapshotStore;
  files: HarnessFiles;
  /** A second instance, as after a restart of the worker. */
  restarted(): SnapshotStore;
  dispose(): Promise<void>;
}

/** What a hypervisor would write. */
export function writesTo(
  files: HarnessFiles,
  content: string,
): (file: string) => Promise<{ bytes: number; sha256: string; frozenMs: number }> {
  return async (file) => {
    await files.write(file, content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    return { bytes: Buffer.byteLength(content), sha256, frozenMs: 12 };
  };
}

/** Every `SnapshotStore` must pass this. */
export function describeSnapshotStoreConformance(name: string, make: () => Promise<SnapshotStoreHarness>): void {
  describe(`SnapshotStore: ${name}`, () => {
    let harness: SnapshotStoreHarness;
    let store: SnapshotStore;
    let files: HarnessFiles;
    const writes = (content: string): ReturnType<typeof writesTo> => writesTo(files, content);
    beforeAll(async () => {
      harness = await make();
      ({ store, files } = harness);
    });
    afterAll(async () => harness.dispose());

    const contentOf = async (id: string, generation: number): Promise<string> =>
      (await files.read(await harness.restarted().memoryFile(id, generation))).toString();

    it('keeps generations apart, also after a restart', async () => {
      expect(await store.save('a', 1, writes('first'))).toEqual({ generation: 1, memoryBytes: 5, frozenMs: 12 });
      await store.save('a', 2, writes('second'));
      expect([await contentOf('a', 1), await contentOf('a', 2)]).toEqual(['first', 'second']);
      expect(await store.list()).toContain('a');
    });

    it('returns what is there without writing it again', async () => {
      const info = await store.save('b', 1, writes('kept'));
      const never = (): Promise<never> => Promise.reject(new Error('written twice'));
      expect(await harness.restarted().save('b', 1, never)).toEqual(info);
      expect(await contentOf('b', 1)).toBe('kept');
    });

    it('keeps nothing of a save that failed or was cancelled, and can try again', async () => {
      const breaks = async (file: string): Promise<never> => {
        await files.write(file, 'half');
        throw new Error('broke');
      };
      await expect(store.save('c', 1, breaks)).rejects.toThrow('broke');
      await expect(store.memoryFile('c', 1)).rejects.toMatchObject({ code: 'not_found' });
      const cancelled = new AbortController();
      const cancels = async (file: string): ReturnType<ReturnType<typeof writesTo>> => {
        const written = await writes('whole')(file);
        cancelled.abort(new Error('cancelled'));
        return written;
      };
      await expect(store.save('c', 1, cancels, cancelled.signal)).rejects.toThrow('cancelled');
      await expect(store.memoryFile('c', 1)).rejects.toMatchObject({ code: 'not_found' });
      await store.save('c', 1, writes('whole'));
      expect(await contentOf('c', 1)).toBe('whole');
    });

    it('does not believe a writer that says more than it wrote', async () => {
      const lies = async (file: string): ReturnType<ReturnType<typeof writesTo>> => ({
        ...(await writes('short')(file)),
        bytes: 1000,
      });
      await expect(store.save('d', 1, lies)).rejects.toMatchObject({ code: 'snapshot_corrupt' });
      await expect(store.memoryFile('d', 1)).rejects.toMatchObject({ code: 'not_found' });
    });

    it('deletes one generation or all, and accepts absence', async () => {
      await store.save('e', 1, writes('1'));
      await store.save('e', 2, writes('2'));
      await store.delete('e', 1);
      await store.delete('e', 1);
      await expect(store.memoryFile('e', 1)).rejects.toMatchObject({ code: 'not_found' });
      expect(await contentOf('e', 2)).toBe('2');
      await store.deleteAll('e');
      await store.deleteAll('e');
      await expect(store.memoryFile('e', 2)).rejects.toMatchObject({ code: 'not_found' });
      expect(await store.list()).not.toContain('e');
    });
  });
}
