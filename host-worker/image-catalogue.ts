import { readFile } from 'node:fs/promises';
import type { DiskBase, ImageCatalogue } from '../activities/host/ports.js';
import { DomainError } from '../workflows/contract/errors.js';

interface ImagesJson {
  version: number;
  arch: string;
  kernel: { path: string; version: string };
  initramfs: { path: string };
  cmdline: string;
  images: Record<string, { rootfs: string }>;
}

/** What `guest/image/build.sh` has built, as its `images.json` tells. */
export class FileImageCatalogue implements ImageCatalogue {
  private constructor(
    private readonly path: string,
    private readonly content: ImagesJson,
  ) {}

  static async open(path: string): Promise<FileImageCatalogue> {
    let content: unknown;
    try {
      content = JSON.parse(await readFile(path, 'utf8'));
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw unusable(path, reason, cause);
    }
    if (!isImagesJson(content)) throw unusable(path, 'it is not a catalogue of version 1');
    return new FileImageCatalogue(path, content);
  }

  /** Kernel, initramfs and command line that every guest of this host boots with. */
  get boot(): { kernel: string; initramfs: string; cmdline: string } {
    const { kernel, initramfs, cmdline } = this.content;
    return { kernel: kernel.path, initramfs: initramfs.path, cmdline };
  }

  get names(): string[] {
    return Object.keys(this.content.images);
  }

  async rootfs(image: string): Promise<DiskBase> {
    const entry = Object.hasOwn(this.content.images, image) ? this.content.images[image] : undefined;
    if (entry !== undefined) return { path: entry.rootfs, format: 'raw' };
    const known = this.names.join(', ') || 'none';
    throw new DomainError('not_found', `this host has no image "${image}"; ${this.path} lists: ${known}`);
  }
}

function unusable(path: string, why: string, cause?: unknown): DomainError {
  const remedy = 'build the images with `torpor setup`';
  return new DomainError('unsupported', `the image catalogue ${path} cannot be used: ${why}; ${remedy}`, {}, { cause });
}

function isImagesJson(value: unknown): value is ImagesJson {
  const json = value as Partial<ImagesJson> | null;
  return (
    json?.version === 1 &&
    typeof json.kernel?.path === 'string' &&
    typeof json.initramfs?.path === 'string' &&
    typeof json.cmdline === 'string' &&
    typeof json.images === 'object' &&
    Object.values(json.images).every((image) => typeof image?.rootfs === 'string')
  );
}
