import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { removeDurably, removeTree, renameDurably, storageFailure, writeDurably } from './durable-file.js';
import { CommandError } from './exec.js';

let dir = '';
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'durable-'))));
afterAll(async () => rm(dir, { recursive: true }));

describe('writeDurably', () => {
  it('replaces a file and leaves no temporary one', async () => {
    const path = join(dir, 'file');
    await writeDurably(path, 'one');
    await writeDurably(path, 'two', 0o640);
    expect(await readFile(path, 'utf8')).toBe('two');
    expect((await stat(path)).mode & 0o777).toBe(0o640);
    expect(await readdir(dir)).toEqual(['file']);
  });

  it('keeps the old content and no temporary file when it fails', async () => {
    const target = join(dir, 'directory');
    await expect(writeDurably(join(target, 'x'), 'content')).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await readdir(dir)).toEqual(['file']);
  });
});

describe('renameDurably and removeDurably', () => {
  it('move and delete, the latter also what is absent', async () => {
    await writeFile(join(dir, 'from'), 'x');
    await renameDurably(join(dir, 'from'), join(dir, 'to'));
    expect(await readFile(join(dir, 'to'), 'utf8')).toBe('x');
    await removeDurably(join(dir, 'to'));
    await removeDurably(join(dir, 'to'));
    expect(await readdir(dir)).toEqual(['file']);
  });
});

describe('storageFailure', () => {
  it('tells a full disk by error code and by what a command printed', () => {
    const reported = Object.assign(new Error('ENOSPC: no space'), { code: 'ENOSPC' });
    const stderr = 'qemu-img: x: No space left on device\n';
    const printed = new CommandError(['qemu-img'], { exitCode: 1, signal: null, stderr, timedOut: false });
    for (const err of [reported, printed]) {
      expect(storageFailure(err, 'saving')).toMatchObject({
        code: 'disk_full',
        message: expect.stringContaining('saving'),
        cause: err,
      });
    }
  });

  it('returns everything else as it came', () => {
    for (const err of [new Error('other'), Object.assign(new Error('x'), { code: 'EXDEV' }), 'text']) {
      expect(storageFailure(err, 'saving')).toBe(err);
    }
  });

  it('says what to do where the machine refuses', () => {
    const err = Object.assign(new Error('EROFS: read-only'), { code: 'EROFS', path: '/data/x' });
    expect(storageFailure(err, 'saving')).toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(/^saving failed: \/data\/x: .*findmnt -T \/data\/x/),
      details: { errno: 'EROFS', path: '/data/x' },
      cause: err,
    });
  });
});

describe('removeTree', () => {
  it('accepts absence, also behind a file', async () => {
    await writeFile(join(dir, 'a-file'), '');
    await removeTree(join(dir, 'a-file', 'below', 'it'));
    await removeTree(join(dir, 'a-file'));
    await removeTree(join(dir, 'a-file'));
    expect(await readdir(dir)).toEqual(['file']);
  });
});
