import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { DiskAttachment, DiskBase } from '../../../activities/host/ports.js';
import { Qcow2Disk } from '../../../host-worker/drivers/qcow2/qcow2-disk.driver.js';
import { ChildProcessExec, type Exec } from '../../../host-worker/exec.js';
import { describeDiskConformance } from './disk.conformance.js';
import { describeDiskCrashes } from './disk-crashes.conformance.js';
import type { MachineDiskHarness } from './disk-harness.js';
import { filesBelow } from './disk-places.js';
import { describeDiskHardship } from './disk-hardship.conformance.js';

const exec = new ChildProcessExec();
const MIB = 1024 * 1024;

async function makeBase(dir: string): Promise<DiskBase> {
  const path = join(dir, 'base.raw');
  await writeFile(path, '');
  await truncate(path, 64 * MIB);
  return { path, format: 'raw' };
}

/** A byte at the beginning and one far behind it, so that several clusters are involved. */
async function put({ path, format }: DiskAttachment | DiskBase, value: number): Promise<void> {
  const writes = [0, 33 * MIB].flatMap((offset) => ['-c', `write -q -P ${value} ${offset} 4k`]);
  await exec.run(['qemu-io', '-f', format, ...writes, path]);
}

async function get({ path, format }: DiskAttachment | DiskBase): Promise<number> {
  const reads = [0, 33 * MIB].flatMap((offset) => ['-c', `read -v ${offset} 1`]);
  const { stdout } = await exec.run(['qemu-io', '-r', '-f', format, ...reads, path]);
  const values = [...stdout.matchAll(/^[0-9a-f]{8}:\s+([0-9a-f]{2})/gm)].map((match) =>
    Number.parseInt(match[1] ?? '', 16),
  );
  expect(values).toHaveLength(2);
  expect(values[0]).toBe(values[1]);
  return values[0] ?? -1;
}

/** Returns once QEMU has opened the image, and thereby locked it. */
async function hold({ path }: DiskAttachment): Promise<() => Promise<void>> {
  const holder = spawn('qemu-io', ['-f', 'qcow2', path], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(holder, 'close');
  // It prompts when it is ready for commands.
  await once(holder.stdout, 'data');
  return async () => {
    holder.stdin.end();
    await ended;
  };
}

async function makeHarness(): Promise<MachineDiskHarness> {
  const dir = await mkdtemp(join(tmpdir(), 'qcow2-'));
  const base = await makeBase(dir);
  const restarted = async (through: Exec = exec): Promise<Qcow2Disk> => new Qcow2Disk({ dataDir: dir, exec: through });
  let paths = 0;
  return {
    ...{ disk: await restarted(), exec, base, put, get, hold, restarted },
    newPath: () => join(dir, `published${(paths += 1)}`),
    removePublished: (path) => rm(path, { force: true }),
    inDirectory: async (dataDir) => new Qcow2Disk({ dataDir, exec }),
    things: () => filesBelow(dir),
    dispose: () => rm(dir, { recursive: true }),
  };
}

describeDiskConformance('qcow2', makeHarness);
describeDiskHardship('qcow2', makeHarness);
describeDiskCrashes('qcow2', makeHarness);

describe('qcow2 beyond the port', () => {
  let dir = '';
  let disk: Qcow2Disk;
  let base: DiskBase;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'qcow2-'));
    disk = new Qcow2Disk({ dataDir: dir, exec });
    base = await makeBase(dir);
  });
  afterAll(async () => rm(dir, { recursive: true }));

  it('leaves no file of a removed disk', async () => {
    await disk.create('gone', base);
    await disk.attach('gone');
    await disk.commit('gone');
    await disk.remove('gone');
    expect(await readdir(join(dir, 'sandboxes'))).toEqual([]);
  });

  it('drops the marker of a commit together with the point it was for', async () => {
    const made = await disk.create('marked', base);
    await disk.commit('marked'); // before there was any point
    await put(made, 1);
    await disk.attach('marked');
    await put(made, 2);
    await disk.rollback('marked');
    expect(await get(made)).toBe(1);
    expect(await readdir(join(dir, 'sandboxes', 'marked'))).toEqual(['disk.qcow2']);
    await disk.remove('marked');
  });

  it('makes a published disk read-only and moves rather than copies it', async () => {
    const made = await disk.create('template', base);
    await put(made, 1);
    const { ino } = await stat(made.path);
    const path = join(dir, 'template.qcow2');
    await disk.publish('template', path);
    const published = await stat(path);
    expect([published.ino, published.mode & 0o777]).toEqual([ino, 0o444]);
  });

  it('says which base is missing when a disk is attached', async () => {
    const own: DiskBase = { path: join(dir, 'own.raw'), format: 'raw' };
    await writeFile(own.path, Buffer.alloc(MIB));
    await disk.create('orphan', own);
    await rm(own.path);
    await expect(disk.attach('orphan')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining(own.path),
    });
    await disk.remove('orphan');
  });

  it('refuses a base that is not what it is said to be', async () => {
    const broken: DiskBase = { path: join(dir, 'broken.qcow2'), format: 'qcow2' };
    await writeFile(broken.path, 'not an image');
    await expect(disk.create('broken', broken)).rejects.toThrow(/qemu-img create .*broken\.qcow2/);
    expect(await disk.list()).not.toContain('broken');
  });

  it('refuses to touch a disk that a process has open for writing', async () => {
    const made = await disk.create('busy', base);
    await disk.detach('busy');
    const held = new AbortController();
    const holder = exec.run(['qemu-io', '-f', 'qcow2', '-c', 'sleep 20000', made.path], { signal: held.signal });
    const ended = holder.catch(() => 'ended');
    await expect(
      (async () => {
        // The lock is taken some moments after the process starts.
        for (let attempt = 0; attempt < 200; attempt += 1) await disk.attach('busy').then(() => disk.rollback('busy'));
      })(),
    ).rejects.toThrow(/another process using the image/);
    held.abort(new Error('done'));
    expect(await ended).toBe('ended');
    await disk.remove('busy');
  });

  it('tells a full disk from other failures', async () => {
    const small = join(dir, 'small');
    await mkdir(small);
    await exec.run(['mount', '-t', 'tmpfs', '-o', 'size=256k,mode=0755', 'small', small]);
    try {
      const full = new Qcow2Disk({ dataDir: small, exec });
      await expect(
        (async () => {
          for (let n = 0; n < 10; n += 1) await full.create(`full${n}`, base);
        })(),
      ).rejects.toMatchObject({ code: 'disk_full' });
    } finally {
      await exec.run(['umount', small]);
    }
  });
});
