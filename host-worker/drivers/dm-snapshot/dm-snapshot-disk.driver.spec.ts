import { writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, realpath, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { DiskBase } from '../../../activities/host/ports.js';
import { SimulatedDeviceMapper } from '../../../test/support/simulated-device-mapper.js';
import { CommandError } from '../../exec.js';
import { DmSnapshotDisk, type DmSnapshotOptions } from './dm-snapshot-disk.driver.js';

const MIB = 2 ** 20;

let root = '';
let kernel: SimulatedDeviceMapper;
let base: DiskBase;
const warnings: string[] = [];
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'dm-snapshot-')));
  kernel = new SimulatedDeviceMapper(root);
  base = { path: join(root, 'base'), format: 'raw' };
  await writeFile(base.path, '');
  await truncate(base.path, 64 * MIB);
  warnings.length = 0;
});
afterEach(async () => rm(root, { recursive: true }));

const open = (options: Partial<DmSnapshotOptions> = {}): Promise<DmSnapshotDisk> =>
  DmSnapshotDisk.open({
    ...{ exec: kernel, dataDir: root, hostTag: 'tag', busyMs: 100, nodeDir: kernel.nodeDir, sysBlock: kernel.sysBlock },
    warn: (_fields, message) => warnings.push(message),
    ...options,
  });
const said = async (work: () => Promise<unknown>): Promise<string[]> => {
  kernel.commands.length = 0;
  await work();
  return kernel.commands;
};
const files = (id: string): Promise<string[]> => readdir(join(root, 'sandboxes', id)).then((names) => names.toSorted());

const LIST = 'losetup --json --list --output NAME,BACK-FILE,RO,AUTOCLEAR,OFFSET,SIZELIMIT,MAJ:MIN';
const NODES = '--noudevsync --noudevrules --verifyudev';

describe('DmSnapshotDisk', () => {
  it('lays the first disk over a base with these commands, and further ones with one less', async () => {
    const disk = await open();
    const create = (id: string, cow: number): string[] => [
      `losetup --find --show sandboxes/${id}/disk.cow`,
      `dmsetup create torpor-tag-${id} ${NODES} --table 0 131072 snapshot /dev/loop0 /dev/loop${cow} PO 8 1 discard_zeroes_cow`,
    ];
    const looking = ['dmsetup ls', LIST];
    expect(await said(() => disk.create('a', base))).toEqual([
      ...looking,
      LIST,
      'losetup --find --show --read-only --sizelimit 67108864 base',
      ...create('a', 1),
      'losetup --detach /dev/loop1 /dev/loop0',
    ]);
    expect(await said(() => disk.create('b', base))).toEqual([
      ...looking,
      LIST,
      ...create('b', 2),
      'losetup --detach /dev/loop2',
    ]);
    expect((await stat(join(root, 'sandboxes/a/disk.cow'))).size).toBe(131_600 * 512);
  });

  it('detaches with these, and the base goes with the last one', async () => {
    const disk = await open();
    for (const id of ['a', 'b']) await disk.create(id, base);
    expect(await said(() => disk.detach('a'))).toEqual([
      'dmsetup table torpor-tag-a',
      LIST,
      `dmsetup remove torpor-tag-a ${NODES}`,
    ]);
    expect([...kernel.loops.values()].map(({ file }) => file)).toContain(base.path);
    await disk.remove('b');
    expect([kernel.loops.size, kernel.snapshots.size]).toEqual([0, 0]);
    expect(await files('a')).toEqual(['disk.cow', 'disk.json']);
    expect(await disk.list()).toEqual(['a']);
  });

  it('keeps a point from attach to commit, without a copy of the whole', async () => {
    const disk = await open();
    await disk.create('a', base);
    await disk.detach('a');
    expect((await said(() => disk.attach('a'))).filter((line) => line.startsWith('cp'))).toHaveLength(1);
    expect(await files('a')).toEqual(['disk.cow', 'disk.json', 'disk.point']);
    expect(await said(() => disk.commit('a'))).toEqual([]);
    expect(await files('a')).toEqual(['disk.cow', 'disk.json']);
  });

  it('takes a base whose device went away meanwhile again', async () => {
    const disk = await open();
    let stolen = 0;
    const other = join(root, 'other');
    await writeFile(other, '');
    kernel.before = (line) => {
      // Another worker removed the last snapshot over it, and the kernel gave the number to another file.
      const loop = kernel.loops.get(0);
      if (!line.startsWith('dmsetup create') || loop === undefined || stolen > 0) return;
      stolen += 1;
      Object.assign(loop, { file: other, readOnly: false, sizelimit: 0 });
      writeFileSync(join(kernel.sysBlock, 'loop0/loop/backing_file'), `${other}\n`);
    };
    await disk.create('a', base);
    const { origin } = kernel.snapshots.get('torpor-tag-a') ?? { origin: -1 };
    expect(kernel.loops.get(origin)?.file).toBe(base.path);
    expect(kernel.commands.filter((line) => line.startsWith('dmsetup create'))).toHaveLength(2);
    expect(kernel.loops.get(0)).toMatchObject({ file: other, autoclear: false });
  });

  it('does not take the loop devices of others for its own, and leaves them alone', async () => {
    await kernel.addLoop({ file: base.path, readOnly: true, sizelimit: 0, autoclear: false });
    await kernel.addLoop({ file: base.path, readOnly: false, sizelimit: 0, autoclear: false });
    const disk = await open();
    await disk.create('a', base);
    expect(kernel.snapshots.get('torpor-tag-a')?.origin).toBe(2);
    await disk.remove('a');
    expect([...kernel.loops].map(([index, { autoclear }]) => [index, autoclear])).toEqual([
      [0, false],
      [1, false],
    ]);
  });

  it.each([
    /losetup --find --show --read-only/,
    /losetup --find --show sandboxes/,
    /dmsetup create/,
    /losetup --detach/,
  ])('leaves nothing when %s fails', async (line) => {
    const disk = await open();
    kernel.failing = { line, stderr: 'no', times: 1 };
    await expect(disk.create('a', base)).rejects.toBeInstanceOf(CommandError);
    expect([kernel.loops.size, kernel.snapshots.size]).toEqual([0, 0]);
    expect(await disk.list()).toEqual([]);
    await disk.create('a', base);
  });

  it('finds what was lost with its folder, and removes it', async () => {
    await (await open()).create('a', base);
    await rm(join(root, 'sandboxes'), { recursive: true });
    const disk = await open();
    expect(await disk.list()).toEqual(['a']);
    await disk.remove('a');
    expect([kernel.loops.size, kernel.snapshots.size, await disk.list()]).toEqual([0, 0, []]);
  });

  it('says which device is in use, and by which command to look', async () => {
    const disk = await open();
    await disk.create('a', base);
    kernel.failing = { line: /dmsetup remove/, stderr: 'Device or resource busy', times: 1_000 };
    await expect(disk.detach('a')).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringContaining('fuser -v'),
    });
  });

  it('extends a CoW file that is nearly full where that is the policy, and refuses it elsewhere', async () => {
    const small = await open({ policy: { bytes: 8 * MIB } });
    await small.create('a', base);
    await small.detach('a');
    kernel.said.set('torpor-tag-a', '16000/16384 80');
    await expect(small.attach('a')).rejects.toMatchObject({
      code: 'disk_full',
      message: expect.stringContaining('97% of 8 MiB'),
    });
    expect([kernel.loops.size, kernel.snapshots.size]).toEqual([0, 0]);

    const growing = await open({ policy: { bytes: 8 * MIB, growBytes: 4 * MIB } });
    await growing.attach('a');
    expect(kernel.commands.at(-1)).toMatch(/^losetup --set-capacity \/dev\/loop\d$/);
    expect((await stat(join(root, 'sandboxes/a/disk.cow'))).size).toBe(12 * MIB);
    // The kernel has not been told yet: a worker that died in between.
    await growing.watchUsage();
    expect((await stat(join(root, 'sandboxes/a/disk.cow'))).size).toBe(12 * MIB);
  });

  it('warns once of each stage', async () => {
    const disk = await open({ policy: { bytes: 8 * MIB } });
    await disk.create('a', base);
    for (const [status, count] of [
      ['13200/16384 80', 1],
      ['13300/16384 80', 1],
      ['16000/16384 80', 2],
      ['Invalid', 3],
    ] as const) {
      kernel.said.set('torpor-tag-a', status);
      await disk.watchUsage();
      expect([status, warnings.length]).toEqual([status, count]);
    }
    expect(warnings[2]).toContain('invalidated');
  });

  it('says that an invalidated snapshot is lost', async () => {
    const disk = await open();
    await disk.create('a', base);
    await disk.detach('a');
    kernel.said.set('torpor-tag-a', 'Invalid');
    await expect(disk.attach('a')).rejects.toMatchObject({ code: 'sandbox_lost' });
  });

  it('refuses what it was not made for: other formats, other drivers, other versions, other bases', async () => {
    const disk = await open();
    const unsupported = { code: 'unsupported' };
    await expect(disk.create('q', { path: base.path, format: 'qcow2' })).rejects.toMatchObject(unsupported);
    await mkdir(join(root, 'sandboxes/f'), { recursive: true });
    await writeFile(join(root, 'sandboxes/f/disk.qcow2'), '');
    await expect(disk.create('f', base)).rejects.toMatchObject(unsupported);
    await expect(disk.attach('f')).rejects.toMatchObject(unsupported);
    expect(await disk.list()).toEqual([]);

    await disk.create('a', base);
    await disk.detach('a');
    const before = await stat(base.path);
    await utimes(base.path, before.atime, new Date(before.mtimeMs + 5_000));
    await expect(disk.attach('a')).rejects.toMatchObject({
      ...unsupported,
      message: expect.stringContaining('touch -d'),
    });
    await utimes(base.path, before.atime, before.mtime);
    await disk.attach('a');
    await disk.detach('a');
    await truncate(base.path, 32 * MIB);
    await expect(disk.attach('a')).rejects.toMatchObject({
      ...unsupported,
      message: expect.stringContaining('33554432'),
    });

    const record = join(root, 'sandboxes/a/disk.json');
    await writeFile(record, (await readFile(record, 'utf8')).replace('"version":1', '"version":2'));
    await expect(disk.attach('a')).rejects.toMatchObject({
      ...unsupported,
      message: expect.stringContaining('version 1'),
    });
    await disk.remove('a');
    expect(await disk.list()).toEqual([]);
  });

  it('says that a disk without its CoW file is lost', async () => {
    const disk = await open();
    await disk.create('a', base);
    await disk.detach('a');
    await rm(join(root, 'sandboxes/a/disk.cow'));
    await expect(disk.attach('a')).rejects.toMatchObject({ code: 'sandbox_lost' });
  });
});
