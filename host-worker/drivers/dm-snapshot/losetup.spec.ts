import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { CommandError, type Exec } from '../../exec.js';
import { Losetup, parseLoops } from './losetup.js';

describe('what losetup prints', () => {
  it('reads devices, also those whose file has lost its name', () => {
    const loop = { 'back-file': '/data/disk.cow (deleted)', ro: false, autoclear: true, offset: 0, sizelimit: 0 };
    const base = { 'back-file': '/images/base.raw', ro: true, autoclear: false, offset: 0, sizelimit: 1024 };
    const json = JSON.stringify({
      loopdevices: [
        { name: '/dev/loop1', ...loop, 'maj:min': '  7:1  ' },
        { name: '/dev/loop0', ...base, 'maj:min': '  7:0  ' },
      ],
    });
    expect(parseLoops(json)).toEqual([
      {
        ...{ device: '/dev/loop1', number: '7:1', file: '/data/disk.cow', deleted: true },
        ...{ readOnly: false, autoclear: true, offset: 0, sizeLimit: 0 },
      },
      {
        ...{ device: '/dev/loop0', number: '7:0', file: '/images/base.raw', deleted: false },
        ...{ readOnly: true, autoclear: false, offset: 0, sizeLimit: 1024 },
      },
    ]);
  });

  it('reads what older versions print: words for numbers, and nothing for none', () => {
    const old = { name: '/dev/loop0', 'back-file': '/a', ro: '1', autoclear: '0', offset: '0', sizelimit: '512' };
    expect(parseLoops(JSON.stringify({ loopdevices: [{ ...old, 'maj:min': '7:0' }] }))).toMatchObject([
      { readOnly: true, autoclear: false, offset: 0, sizeLimit: 512 },
    ]);
    expect(parseLoops('')).toEqual([]);
    expect(parseLoops('{"loopdevices": []}')).toEqual([]);
  });
});

function failing(stderr: string): Exec {
  return {
    run: (argv) => Promise.reject(new CommandError(argv, { exitCode: 1, signal: null, stderr, timedOut: false })),
    spawnDetached: () => Promise.reject(new Error('nothing is started in the background')),
  };
}

describe('detaching', () => {
  it('accepts that the device is detached, and nothing else', async () => {
    const gone = 'losetup: /dev/loop0: detach failed: No such device or address';
    await new Losetup(failing(gone), '/sys/block').detach(['/dev/loop0']);
    const refused = new Losetup(
      failing(`${gone}\nlosetup: /dev/loop1: detach failed: Permission denied`),
      '/sys/block',
    );
    await expect(refused.detach(['/dev/loop0', '/dev/loop1'])).rejects.toBeInstanceOf(CommandError);
  });
});

describe('looking at the kernel', () => {
  it('says which file is behind a device at this moment', async () => {
    const sys = await mkdtemp(join(tmpdir(), 'sys-'));
    try {
      await mkdir(join(sys, 'loop3/loop'), { recursive: true });
      await writeFile(join(sys, 'loop3/loop/backing_file'), '/data/disk.cow (deleted)\n');
      const losetup = new Losetup(failing('not run'), sys);
      expect(await losetup.fileBehind('/dev/loop3')).toBe('/data/disk.cow');
      expect(await losetup.fileBehind('/dev/loop4')).toBeUndefined();
    } finally {
      await rm(sys, { recursive: true });
    }
  });
});
