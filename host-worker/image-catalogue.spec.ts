import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FileImageCatalogue } from './image-catalogue.js';

let dir = '';
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'catalogue-'))));
afterAll(async () => rm(dir, { recursive: true }));

async function catalogue(content: unknown): Promise<FileImageCatalogue> {
  const path = join(dir, 'images.json');
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  return FileImageCatalogue.open(path);
}

const complete = {
  version: 1,
  arch: 'x86_64',
  kernel: { path: '/k', version: '6.1' },
  initramfs: { path: '/i' },
  cmdline: 'quiet',
  images: { minimal: { rootfs: '/r' } },
};

describe('FileImageCatalogue', () => {
  it('tells root file systems and what guests boot with', async () => {
    const images = await catalogue(complete);
    expect(await images.rootfs('minimal')).toEqual({ path: '/r', format: 'raw' });
    expect(images.boot).toEqual({ kernel: '/k', initramfs: '/i', cmdline: 'quiet' });
    expect(images.names).toEqual(['minimal']);
  });

  it('names what there is when asked for something else', async () => {
    const images = await catalogue(complete);
    for (const name of ['base', 'toString']) {
      await expect(images.rootfs(name)).rejects.toMatchObject({
        code: 'not_found',
        message: expect.stringContaining('minimal'),
      });
    }
  });

  it('says what is wrong with a file that is no catalogue', async () => {
    for (const content of [
      '{',
      'null',
      { ...complete, version: 2 },
      { ...complete, kernel: undefined },
      { ...complete, images: { x: {} } },
    ]) {
      await expect(catalogue(content)).rejects.toMatchObject({
        code: 'unsupported',
        message: expect.stringContaining(dir),
      });
    }
    await expect(FileImageCatalogue.open(join(dir, 'none'))).rejects.toMatchObject({ code: 'unsupported' });
  });
});
