import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FileBuildStore } from '../../../host-worker/build-store.js';
import { Qcow2Disk } from '../../../host-worker/drivers/qcow2/qcow2-disk.driver.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { toFailure } from '../../../host-worker/failure.js';
import { FileJournal } from '../../../host-worker/journal.js';
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

/** As workers wrote them before manifests had one. */
function withoutChecksum(manifest: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(manifest).filter(([name]) => name !== 'checksum'));
}

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
      ...withoutChecksum(manifest),
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
    expect(await store.generations('manifest')).toEqual([]);
    await expect(store.memoryFile('manifest', 1)).rejects.toMatchObject(corrupt);
    await truncate(join(directory('manifest'), 'manifest.json'), 20);
    await expect(store.memoryFile('manifest', 1)).rejects.toMatchObject(corrupt);
    await expect(store.save('manifest', 1, writes('complete'))).rejects.toMatchObject(corrupt);
  });

  it.each<[string, (manifest: Record<string, unknown>) => unknown]>([
    ['says something else than was written', (manifest) => ({ ...manifest, frozenMs: 12_345 })],
    ['has another checksum', (manifest) => ({ ...manifest, checksum: '0'.repeat(64) })],
    ['tells of no memory', () => ({ version: 1, generation: 1 })],
    ['tells of half a memory', () => ({ version: 1, generation: 1, memory: { bytes: 8 } })],
    ['is no object', () => null],
    ['is a list', () => [1]],
  ])('are neither trusted nor deleted when the manifest %s', async (how, edit) => {
    const id = `m-${how.replaceAll(' ', '-')}`;
    await store.save(id, 1, writes('complete'));
    await store.save(id, 2, writes('another'));
    await editManifest(id, edit);
    await expect(store.memoryFile(id, 1)).rejects.toMatchObject({
      code: 'snapshot_corrupt',
      message: expect.stringContaining(join(directory(id), 'manifest.json')),
    });
    // Not complete, and no hindrance for the others.
    expect(await store.generations(id)).toEqual([2]);
    await store.deleteUnfinished(id);
    expect(await readdir(directory(id))).toEqual(expect.arrayContaining(['manifest.json', 'memory']));
  });

  it('that were never finished go when nobody goes on with them, and nothing else does', async () => {
    await store.save('half', 1, writes('complete'));
    const partial = join(dataDir, 'sandboxes', 'half', 'snapshots', '7.partial');
    await mkdir(partial);
    await writeFile(join(partial, 'memory'), 'half of i');
    expect(await store.generations('half')).toEqual([1]);
    await store.deleteUnfinished('half');
    expect(await readdir(join(dataDir, 'sandboxes', 'half', 'snapshots'))).toEqual(['1']);
    expect(await store.list()).toContain('half');
  });

  it('are refused by a host whose guests have another processor', async () => {
    await store.save('foreign', 1, writes('complete'));
    const other = new FileSnapshotStore({ dataDir, hypervisor: { ...hypervisor, cpu: 'kvm:EPYC-v1' } });
    await expect(other.memoryFile('foreign', 1)).rejects.toMatchObject({ code: 'snapshot_incompatible' });
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

describe('a build', () => {
  let dataDir = '';
  let store: FileBuildStore;
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'stores-'));
    store = new FileBuildStore({ dataDir, hypervisor });
  });
  afterAll(async () => rm(dataDir, { recursive: true }));

  it.each<[string, (manifest: Record<string, unknown>) => unknown]>([
    ['is torn', () => '{'],
    [
      'names a disk elsewhere',
      (manifest) => ({ ...withoutChecksum(manifest), disk: { file: '../../x', format: 'raw' } }),
    ],
    ['says something else than was written', (manifest) => ({ ...manifest, artefact: {} })],
  ])('whose manifest %s is neither trusted nor deleted', async (how, edit) => {
    const id = `b-${how.replaceAll(' ', '-')}`;
    await store.save(id, publishes);
    const path = join(dataDir, 'templates', id, 'manifest.json');
    const edited = edit(JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>);
    await writeFile(path, typeof edited === 'string' ? edited : JSON.stringify(edited));
    for (const use of [store.find(id), store.memoryFile(id), store.save(id, publishes)]) {
      await expect(use).rejects.toMatchObject({ code: 'snapshot_corrupt', message: expect.stringContaining(path) });
    }
    await store.deleteUnfinished(id);
    expect(await store.list()).toContain(id);
    expect(await store.unfinished()).toEqual([]);
  });

  it('that was begun is told from one that is published', async () => {
    await store.save('ready', publishes);
    await expect(store.save('begun', () => Promise.reject(new Error('died')))).rejects.toThrow('died');
    expect(await store.unfinished()).toEqual(['begun']);
    for (const id of ['begun', 'ready']) await store.deleteUnfinished(id);
    expect(await store.unfinished()).toEqual([]);
    expect(await store.find('ready')).toBeDefined();
  });
});

/** A small file system of its own, taken away even after a failure. */
async function onTmpfs(options: string, use: (dir: string, exec: ChildProcessExec) => Promise<void>): Promise<void> {
  const exec = new ChildProcessExec();
  const dir = await mkdtemp(join(tmpdir(), 'stores-'));
  await exec.run(['mount', '-t', 'tmpfs', '-o', options, 'small', dir]);
  try {
    await use(dir, exec);
  } finally {
    await exec.run(['umount', dir]);
    await rm(dir, { recursive: true });
  }
}

describe('a full disk', () => {
  it('is told as such by both stores', () =>
    onTmpfs('size=64k', async (dataDir) => {
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
    }));

  it('ends a step before it acts when not even the journal can be written, and a destroy all the same', () =>
    onTmpfs('size=2m', async (dir) => {
      const journal = await FileJournal.open(join(dir, 'journal'), 'h', { warn: () => {} });
      const fill = async (): Promise<void> =>
        writeFile(join(dir, 'filler'), 'x'.repeat(8_000_000)).catch(() => undefined);
      const key = (sandboxId: string, step: string) => ({ sandboxId, epoch: 1, opId: 'op', step });
      await fill();
      // What was set aside is given up for it.
      expect(await journal.begin(key('a', 'deleteFiles'))).toEqual({ done: false });
      await fill();
      for (let n = 0; n < 1_000; n += 1) {
        const outcome = await journal.begin(key(`s${n}`, 'setUpNetwork')).catch((err: unknown) => err);
        if (outcome instanceof Error) {
          expect(outcome).toMatchObject({ code: 'disk_full', message: expect.stringContaining('`df -h`') });
          break;
        }
        expect(n).toBeLessThan(999);
        await fill();
      }
      await rm(join(dir, 'filler'));
      expect(await journal.begin(key('a', 'again'))).toEqual({ done: false });
    }));
});

describe('a read-only file system', () => {
  it('is named by stores, journal and disks, with the command to look with', () =>
    onTmpfs('size=4m', async (dir, exec) => {
      const journal = await FileJournal.open(join(dir, 'journal'), 'h', { warn: () => {} });
      const base = { path: join(dir, 'base'), format: 'raw' as const };
      await writeFile(base.path, 'x'.repeat(512));
      const disk = new Qcow2Disk({ dataDir: dir, exec });
      await disk.create('made', base);
      await exec.run(['mount', '-o', 'remount,ro', dir]);
      const refused = { code: 'command_failed', message: expect.stringMatching(/read-only; see `findmnt -T \S+`/) };
      const snapshots = new FileSnapshotStore({ dataDir: dir, hypervisor });
      await expect(snapshots.save('s', 1, writes('x'))).rejects.toMatchObject(refused);
      const builds = new FileBuildStore({ dataDir: dir, hypervisor });
      await expect(builds.save('b', publishes)).rejects.toMatchObject(refused);
      await expect(disk.create('d', base)).rejects.toMatchObject(refused);
      const key = { sandboxId: 'j', epoch: 1, opId: 'op', step: 'startVm' };
      await expect(journal.begin(key)).rejects.toMatchObject(refused);
      const failure = toFailure(await disk.attach('made').catch((err: unknown) => err), 'attachDisk', 'h1');
      expect(failure).toMatchObject({ type: 'command_failed' });
      expect(failure.message).toMatch(/`qemu-img snapshot .*read-only; see `findmnt`/is);
      await exec.run(['mount', '-o', 'remount,rw', dir]);
      expect(await snapshots.list()).toEqual(['made']);
      await disk.remove('made');
    }));
});
