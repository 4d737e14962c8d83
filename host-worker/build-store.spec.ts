import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { FileBuildStore } from './build-store.js';

const hypervisor = { name: 'qemu', version: '7.2', cpu: 'tcg:max' };
const facts = {
  ...{ memoryBytes: 6, diskBytes: 4, hypervisor: 'qemu 7.2', cpu: 'tcg:max' },
  sha256: createHash('sha256').update('memory').digest('hex'),
};

let dataDir: string;
let store: FileBuildStore;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'builds-'));
  store = new FileBuildStore({ dataDir, hypervisor });
});
afterEach(() => rm(dataDir, { recursive: true }));

type Write = Parameters<FileBuildStore['save']>[1];

/** The first attempt: memory and disk are where they belong, and then the worker dies. */
const dies: Write = async ({ memoryFile, diskFile }) => {
  await writeFile(memoryFile, 'memory');
  await writeFile(diskFile, 'disk');
  throw new Error('died');
};

/** The second one: the VM is gone, and all there is to do is to say what the first one has written. */
const goesOn: Write = async ({ diskFile }) => ({ ...facts, disk: { path: diskFile, format: 'qcow2' } });

const partial = (name: string) => join(dataDir, 'templates/b1.partial', name);

describe('publishing a build after a worker that died', () => {
  beforeEach(async () => expect(store.save('b1', dies)).rejects.toThrow('died'));

  it('goes on with what is there', async () => {
    await new FileBuildStore({ dataDir, hypervisor }).save('b1', goesOn);
    const { disk } = await store.find('b1');
    const memoryFile = await store.memoryFile('b1');
    expect([await readFile(memoryFile, 'utf8'), await readFile(disk.path, 'utf8')]).toEqual(['memory', 'disk']);
  });

  it('gives the disk of a build whose memory another hypervisor saved, and refuses only that', async () => {
    await store.save('b1', goesOn);
    const other = new FileBuildStore({ dataDir, hypervisor: { ...hypervisor, cpu: 'another' } });
    await expect(other.memoryFile('b1')).rejects.toMatchObject({ code: 'snapshot_incompatible' });
    const { disk } = await other.find('b1');
    expect(await readFile(disk.path, 'utf8')).toBe('disk');
  });

  it('refuses memory that is not all there', async () => {
    await writeFile(partial('memory'), 'mem');
    await expect(store.save('b1', goesOn)).rejects.toMatchObject({ code: 'snapshot_corrupt' });
  });

  it('compares its checksum when the machine went down in between', async () => {
    await writeFile(partial('begun-in-boot'), 'an earlier boot');
    await writeFile(partial('memory'), 'mebory');
    await expect(store.save('b1', goesOn)).rejects.toMatchObject({
      code: 'snapshot_corrupt',
      message: expect.stringContaining('SHA-256'),
    });
    await writeFile(partial('memory'), 'memory');
    await store.save('b1', goesOn);
    expect((await store.find('b1')).artefact).toMatchObject({ memoryBytes: 6 });
  });
});

describe('a file in the place of the builds', () => {
  beforeEach(() => writeFile(join(dataDir, 'templates'), 'a file'));

  it('counts as their absence', async () => {
    expect(await store.list()).toEqual([]);
    await store.delete('b1');
    await expect(store.find('b1')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('is named by a save, with what to do', async () => {
    await expect(store.save('b1', goesOn)).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(/^publishing build b1 failed: .*move the file away/),
    });
  });
});
