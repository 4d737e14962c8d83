import { mkdtemp, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type ProcessIdentity, identify } from '../vmm/vm-process.js';
import { isLoading, untilLoaded } from './loading.js';

describe('loading on demand', () => {
  let dir: string;
  let self: ProcessIdentity;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'loading-'));
    const found = await identify(process.pid);
    if (found === undefined) throw new Error('this process is not there');
    self = found;
  });
  afterAll(() => rm(dir, { recursive: true }));

  it('lasts as long as the process holds the file, whatever becomes of its name', async () => {
    const path = join(dir, 'memory');
    await writeFile(path, 'pages');
    const { dev, ino } = await stat(path);
    expect(await isLoading(self, { dev, ino })).toBe(false);
    const reader = await open(path, 'r');
    expect(await isLoading(self, { dev, ino })).toBe(true);
    await rename(path, `${path}.moved`);
    expect(await isLoading(self, { dev, ino })).toBe(true);
    await rm(`${path}.moved`);
    expect(await isLoading(self, { dev, ino })).toBe(true);
    const waiting = untilLoaded('vm', self, { dev, ino });
    await reader.close();
    await waiting;
    expect(await isLoading(self, { dev, ino })).toBe(false);
  });

  it('is waited for until somebody says stop', async () => {
    const path = join(dir, 'held');
    const reader = await open(path, 'w');
    const { dev, ino } = await reader.stat();
    const controller = new AbortController();
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 20);
    await expect(untilLoaded('vm', self, { dev, ino }, controller.signal)).rejects.toBe(reason);
    await reader.close();
  });

  it('has ended with the process', async () => {
    const gone = { ...self, pid: 4_194_303 };
    expect(await isLoading(gone, { dev: 1, ino: 1 })).toBe(false);
    await untilLoaded('vm', gone, { dev: 1, ino: 1 });
  });
});
