import { access, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { renameDurably, writeDurably } from '../../host-worker/durable-file.js';
import { FileImageCatalogue } from '../../host-worker/image-catalogue.js';

const DISK_BYTES = 64 * 1024 * 1024;

/** A catalogue with one bootable image, `minimal`: 64 MiB, nearly all of them holes, and the same bytes every time. */
export async function openSimulatedImages(dataDir: string): Promise<FileImageCatalogue> {
  const directory = join(dataDir, 'simulated-images');
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const rootfs = join(directory, 'minimal.raw');
  if (!(await exists(rootfs))) await makeDisk(rootfs);
  const nothing = { path: '/dev/null' };
  const catalogue = {
    version: 1,
    arch: process.arch,
    kernel: { ...nothing, version: 'simulated' },
    initramfs: nothing,
    cmdline: '',
    images: { minimal: { rootfs } },
  };
  const file = join(directory, 'images.json');
  await writeDurably(file, JSON.stringify(catalogue), 0o644);
  return FileImageCatalogue.open(file);
}

async function makeDisk(path: string): Promise<void> {
  const partial = `${path}.${process.pid}`;
  const handle = await open(partial, 'w', 0o644);
  try {
    await handle.truncate(DISK_BYTES);
    await handle.write(Buffer.alloc(4096, 'the root of a simulated guest\n'), 0, 4096, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await renameDurably(partial, path);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
