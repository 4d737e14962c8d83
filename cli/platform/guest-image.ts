import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CliConfig } from '../config.js';
import { CliError } from '../cli-error.js';
import { PROJECT_ROOT } from '../project-root.js';
import { runCommand } from './command.js';

/** The part of images.json that the command reads; the host worker reads the rest. */
export interface ImageIndex {
  kernel: { path: string; version: string };
  initramfs: { path: string };
  cmdline: string;
  agent: { path: string; version: string };
  images: Record<string, { rootfs: string }>;
}

/** What the guest image's build writes last: it names complete parts or does not exist. */
export function imagesFile(cacheDir: string): string {
  return join(cacheDir, 'images.json');
}

/** The index that this machine goes by. */
export function chosenImages({ images, cacheDir }: Pick<CliConfig, 'images' | 'cacheDir'>): string {
  return images ?? imagesFile(cacheDir);
}

export function readImages(config: CliConfig): ImageIndex | undefined {
  const file = chosenImages(config);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as ImageIndex) : undefined;
}

/** Builds what is not in the cache: agent, kernel, initramfs and the `minimal` root filesystem. What was brought here stays as it is. */
export async function ensureGuestImage(
  config: CliConfig,
  verbose: boolean,
  onLine: (line: string) => void,
): Promise<ImageIndex> {
  if (config.images !== undefined) {
    const brought = readImages(config);
    if (brought !== undefined) return brought;
    throw new CliError(`TORPOR_IMAGES names a file that is not there: ${config.images}`, {
      suggestion: 'copy it here together with the files that it names, or unset TORPOR_IMAGES to build images',
      code: 'images_missing',
    });
  }
  await mkdir(config.cacheDir, { recursive: true });
  await runCommand(
    ['bash', join(PROJECT_ROOT, 'guest/image/build.sh'), '--cache', config.cacheDir, ...(verbose ? ['--verbose'] : [])],
    {
      env: { ...config.inherited },
      timeoutMs: 1_800_000,
      onLine: verbose ? onLine : (line) => (/^cached|^\//.test(line) ? undefined : onLine(line)),
      logFile: join(config.cacheDir, 'logs'),
    },
  );
  const index = readImages(config);
  if (index === undefined) throw new Error(`the image build succeeded but left no ${imagesFile(config.cacheDir)}`);
  return index;
}
