import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { describeWhen } from '../../support/needs.js';
import { canReflink, copyDurably, copySparsely } from '../../../host-worker/file-copy.js';

const MIB = 2 ** 20;
const exec = new ChildProcessExec();

/** Two megabytes of content with a hole before and behind them. */
async function makeSparse(path: string): Promise<Buffer> {
  await writeFile(path, '');
  await truncate(path, 32 * MIB);
  const content = Buffer.alloc(2 * MIB, 'torpor');
  const file = await open(path, 'r+');
  await file.write(content, 0, content.length, 8 * MIB);
  await file.sync();
  await file.close();
  return content;
}

const FILE_SYSTEMS = [
  { name: 'xfs', make: ['mkfs.xfs', '-q', '-m', 'reflink=1'], bytes: 320 * MIB, method: 'reflink' },
  { name: 'ext4', make: ['mkfs.ext4', '-q', '-F'], bytes: 128 * MIB, method: 'sparse' },
] as const;

for (const { name, make, bytes, method } of FILE_SYSTEMS) {
  describeWhen(
    installed(make[0]),
    `${make[0]}: apt-get install ${name === 'xfs' ? 'xfsprogs' : 'e2fsprogs'}`,
    `copies on ${name}`,
    () => {
      let dir = '';
      let mount = '';
      beforeAll(async () => {
        dir = await mkdtemp(join(tmpdir(), 'copy-'));
        const image = join(dir, 'image');
        mount = join(dir, 'mount');
        await writeFile(image, '');
        await truncate(image, bytes);
        await mkdir(mount);
        await exec.run([...make, image]);
        await exec.run(['mount', '-o', 'loop', image, mount]);
      }, 120_000);
      afterEach(async () => {
        for (const name of ['from', 'to']) await rm(join(mount, name), { force: true });
      });
      afterAll(async () => {
        await exec.run(['umount', mount]);
        await rm(dir, { recursive: true });
      }, 120_000);

      it('are made in the way that the file system allows, which is told beforehand', async () => {
        const [from, to] = [join(mount, 'from'), join(mount, 'to')];
        const content = await makeSparse(from);
        expect((await canReflink(mount)).possible).toBe(method === 'reflink');
        expect(await copyDurably(exec, from, to)).toBe(method);
        expect((await stat(to)).size).toBe(32 * MIB);
        expect((await readFile(to)).subarray(8 * MIB, 10 * MIB).equals(content)).toBe(true);
        // Neither the holes nor, of shared blocks, more than the original has.
        expect((await stat(to)).blocks).toBeLessThanOrEqual((await stat(from)).blocks + 64);
      });

      it('turn zeros into holes when they are not shared', async () => {
        const [from, to] = [join(mount, 'from'), join(mount, 'to')];
        await writeFile(from, Buffer.alloc(16 * MIB));
        await copySparsely(exec, from, to);
        expect(await stat(to)).toMatchObject({ size: 16 * MIB, blocks: 0 });
      });

      it('leave nothing when they fail or are told to stop', async () => {
        const [from, to] = [join(mount, 'from'), join(mount, 'to')];
        await expect(copyDurably(exec, from, to)).rejects.toMatchObject({ code: 'ENOENT' });
        await makeSparse(from);
        await expect(copyDurably(exec, from, to, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
        await expect(stat(to)).rejects.toMatchObject({ code: 'ENOENT' });
      });
    },
  );
}

function installed(program: string): boolean {
  return ['/usr/sbin', '/sbin'].some((dir) => existsSync(join(dir, program)));
}
