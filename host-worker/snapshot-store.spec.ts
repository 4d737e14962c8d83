import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { FileSnapshotStore } from './snapshot-store.js';

const hypervisor = { name: 'qemu', version: '7.2', cpu: 'tcg:max' };
const never = (): Promise<never> => Promise.reject(new Error('it must not come to writing'));

let dataDir: string;
let store: FileSnapshotStore;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'snapshots-'));
  store = new FileSnapshotStore({ dataDir, hypervisor });
});
afterEach(() => rm(dataDir, { recursive: true }));

/** A file in the place of one of the directories above a snapshot. */
async function inTheWay(of: 'sandboxes' | 'sandboxes/s1' | 'sandboxes/s1/snapshots'): Promise<string> {
  const path = join(dataDir, of);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, 'a file');
  return path;
}

describe.each(['sandboxes', 'sandboxes/s1', 'sandboxes/s1/snapshots'] as const)('a file in the place of %s', (of) => {
  it('counts as the absence of what would be below it', async () => {
    await inTheWay(of);
    await store.delete('s1', 1);
    expect(await store.generations('s1')).toEqual([]);
    await expect(store.memoryFile('s1', 1)).rejects.toMatchObject({ code: 'not_found' });
    await store.deleteAll('s1');
    expect(await store.list()).toEqual([]);
  });

  it('is named by a save, with what to do, and left alone', async () => {
    const path = await inTheWay(of);
    await expect(store.save('s1', 1, never)).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(
        /^saving snapshot 1 of s1 failed: \/.*a file is in the place of a directory; see `(namei|ls) .*move the file away/,
      ),
    });
    expect((await stat(path)).isFile()).toBe(true);
    expect(await readFile(path, 'utf8')).toBe('a file');
  });
});

it('does not take for a sandbox what bears no id', async () => {
  for (const name of ['lost+found', '.trash', 's1']) await mkdir(join(dataDir, 'sandboxes', name), { recursive: true });
  expect(await store.list()).toEqual(['s1']);
});

it('a save tells what the machine refuses to whoever writes the memory', async () => {
  const refused = Object.assign(new Error('EROFS: read-only file system, open'), { code: 'EROFS', path: '/x/memory' });
  await expect(store.save('s1', 1, () => Promise.reject(refused))).rejects.toMatchObject({
    code: 'command_failed',
    message: expect.stringContaining('`findmnt -T /x/memory`'),
  });
});
