import { chmod, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FileBuildStore } from '../../../host-worker/build-store.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { FileSnapshotStore } from '../../../host-worker/snapshot-store.js';
import { type HarnessFiles, REAL_FILES } from '../harness-files.js';
import { describeBuildStoreConformance, publishesTo } from './build-store.conformance.js';
import { describeSnapshotStoreConformance, writesTo } from './snapshot-store.conformance.js';

const hypervisor = { name: 'qemu', version: '7.2', cpu: 'tcg:max' };

async function inDirectory<T>(
  make: (dataDir: string) => T,
): Promise<{ store: T; files: HarnessFiles; restarted(): T; dispose(): Promise<void> }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'stores-'));
  const dispose = () => rm(dataDir, { recursive: true });
  return { store: make(dataDir), files: REAL_FILES, restarted: () => make(dataDir), dispose };
}

const writes = (content: string) => writesTo(REAL_FILES, content);
const publishes = publishesTo(REAL_FILES);

describeSnapshotStoreConformance('files', () =>
  inDirectory((dataDir) => new FileSnapshotStore({ dataDir, hypervisor })),
);
describeBuildStoreConformance('files', () => inDirectory((dataDir) => new FileBuildStore({ dataDir, hypervisor })));

describe('files of a snapshot', () => {
  let dataDir = '';
  let store: FileSnapshotStore;
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'stores-'));
    store = new FileSnapshotStore({ dataDir, hypervisor });
  });
  afterAll(async () => rm(dataDir, { recursive: true }));

  const directory = (id: string): string => join(dataDir, 'sandboxes', id, 'snapshots', '1');
  const corrupt = { code: 'snapshot_corrupt' };

  async function editManifest(id: string, edit: (manifest: Record<string, unknown>) => unknown): Promise<void> {
    const path = join(directory(id), 'manifest.json');
    const manifest = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    await writeFile(path, JSON.stringify(edit(manifest)));
  }
  /** As if the machine had been restarted since. */
  const fromAnEarlierBoot = (id: string): Promise<void> =>
    editManifest(id, (manifest) => ({
      ...manifest,
      memory: { ...(manifest['memory'] as object), bootId: 'an earlier one' },
    }));

  it('are readable by root alone, and not writable', async () => {
    await store.save('modes', 1, writes('secret'));
    const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;
    expect(await mode(directory('modes'))).toBe(0o700);
    expect(await mode(join(directory('modes'), 'memory'))).toBe(0o400);
    expect(await readdir(join(dataDir, 'sandboxes', 'modes', 'snapshots'))).toEqual(['1']);
  });

  it('are refused when the memory has another size or is gone', async () => {
    await store.save('torn', 1, writes('complete'));
    await truncate(join(directory('torn'), 'memory'), 3);
    await expect(store.memoryFile('torn', 1)).rejects.toMatchObject(corrupt);
    await rm(join(directory('torn'), 'memory'));
    await expect(store.memoryFile('torn', 1)).rejects.toMatchObject(corrupt);
  });

  it('are refused when the manifest is torn or of another version', async () => {
    await store.save('manifest', 1, writes('complete'));
    await editManifest('manifest', (manifest) => ({ ...manifest, version: 99 }));
    await expect(store.memoryFile('manifest', 1)).rejects.toMatchObject(corrupt);
    await truncate(join(directory('manifest'), 'manifest.json'), 20);
    await expect(store.memoryFile('manifest', 1)).rejects.toMatchObject(corrupt);
    await expect(store.save('manifest', 1, writes('complete'))).rejects.toMatchObject(corrupt);
  });

  it('are refused by a host whose guests have another processor', async () => {
    await store.save('foreign', 1, writes('complete'));
    const other = new FileSnapshotStore({ dataDir, hypervisor: { ...hypervisor, cpu: 'kvm:EPYC-v1' } });
    await expect(other.memoryFile('foreign', 1)).rejects.toMatchObject(corrupt);
    const newer = new FileSnapshotStore({ dataDir, hypervisor: { ...hypervisor, version: '10.0' } });
    expect(await newer.memoryFile('foreign', 1)).toBe(join(directory('foreign'), 'memory'));
  });

  it('are compared with their checksum once the machine was restarted', async () => {
    await store.save('bits', 1, writes('complete'));
    const memory = join(directory('bits'), 'memory');
    await chmod(memory, 0o600);
    await writeFile(memory, 'camplete');
    expect(await store.memoryFile('bits', 1)).toBe(memory);
    await fromAnEarlierBoot('bits');
    await expect(store.memoryFile('bits', 1)).rejects.toMatchObject(corrupt);
    await writeFile(memory, 'complete');
    expect(await store.memoryFile('bits', 1)).toBe(memory);
  });

  it('go with the whole folder of the sandbox in the end', async () => {
    await store.save('whole', 1, writes('x'));
    await writeFile(join(dataDir, 'sandboxes', 'whole', 'console.log'), 'printed');
    await store.deleteAll('whole');
    expect(await readdir(join(dataDir, 'sandboxes'))).not.toContain('whole');
  });
});

describe('a full disk', () => {
  it('is told as such by both stores', async () => {
    const exec = new ChildProcessExec();
    const dataDir = await mkdtemp(join(tmpdir(), 'stores-'));
    await exec.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'full', dataDir]);
    try {
      const content = 'x'.repeat(100_000);
      const snapshots = new FileSnapshotStore({ dataDir, hypervisor });
      await expect(snapshots.save('full', 1, writes(content))).rejects.toMatchObject({ code: 'disk_full' });
      expect(await readdir(join(dataDir, 'sandboxes', 'full', 'snapshots'))).toEqual([]);
      const builds = new FileBuildStore({ dataDir, hypervisor });
      const tooLarge: typeof publishes = async (paths) => {
        await writeFile(paths.diskFile, content);
        return publishes(paths);
      };
      await expect(builds.save('full', tooLarge)).rejects.toMatchObject({ code: 'disk_full' });
    } finally {
      await exec.run(['umount', dataDir]);
      await rm(dataDir, { recursive: true });
    }
  });
});
