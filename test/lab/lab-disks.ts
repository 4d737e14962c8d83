import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../support/root.js';
import { compileTree } from './compile-tree.js';

const run = promisify(execFile);

/** What labs boot from and find inside. None of it is written to: each lab has overlays of its own. */
export interface LabImages {
  kernel: string;
  initramfs: string;
  root: string;
  /** node_modules, and what `torpor setup` leaves in the cache, with images.json. */
  modules: string;
  cache: string;
}

const GIB = 2 ** 30;

/** Builds what is not in the cache. Needs root and the guest images (`torpor setup`). */
export async function ensureLabImages(cacheDir: string, onLine: (line: string) => void): Promise<LabImages> {
  const build = join(ROOT, 'test/lab/image/build.sh');
  const { stdout, stderr } = await run(build, ['--cache', cacheDir, '--node', process.execPath], {
    maxBuffer: 2 ** 26,
  });
  for (const line of stderr.split('\n')) if (line.startsWith('built')) onLine(line);
  const made = Object.fromEntries(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split('=') as [string, string]),
  );
  const [modules, cache] = [await ensureModules(cacheDir), await ensureCache(cacheDir)];
  return { kernel: made['kernel'] ?? '', initramfs: made['initramfs'] ?? '', root: made['root'] ?? '', modules, cache };
}

/** Sources, and the build where there is one: they change with every run, so this image is made for each, in a second. */
export async function makeTreeImage(tree: string, target: string, cloudHypervisor: string | undefined): Promise<void> {
  const stage = `${target}.stage`;
  await rm(stage, { recursive: true, force: true });
  await mkdir(join(stage, 'bin'), { recursive: true });
  const left = new Set(['node_modules', '.git', 'coverage'].map((name) => join(tree, name)));
  await cp(tree, join(stage, 'tree'), { recursive: true, filter: (path) => !left.has(path), verbatimSymlinks: true });
  await compileTree(join(stage, 'tree'));
  // Where the other image is mounted.
  await mkdir(join(stage, 'tree/node_modules'));
  if (cloudHypervisor !== undefined) {
    await copyFile(cloudHypervisor, join(stage, 'bin/cloud-hypervisor'));
    await chmod(join(stage, 'bin/cloud-hypervisor'), 0o755);
  }
  await makeFileSystem(stage, target, GIB);
  await rm(stage, { recursive: true, force: true });
}

async function ensureModules(cacheDir: string): Promise<string> {
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  const hash = hashOf(await readFile(installed));
  return ensurePart(cacheDir, `lab-modules-${hash}`, 4 * GIB, (stage) => linkTree(join(ROOT, 'node_modules'), stage));
}

/** What a host needs of the cache, under the paths that it has in the lab. */
async function ensureCache(cacheDir: string): Promise<string> {
  const index = await readFile(join(cacheDir, 'images.json'), 'utf8').catch((cause: unknown) => {
    throw new Error(`${cacheDir} has no guest images: run \`torpor setup\` first`, { cause });
  });
  const parts = await readdir(cacheDir);
  const files = [...index.matchAll(/"(\/[^"]+)"/g)].map(([, path = '']) => path);
  const folders = new Set(files.map((path) => relative(cacheDir, dirname(path)).split(sep)[0] ?? ''));
  for (const part of parts) if (part.startsWith('postgres-') || part === 'bin') folders.add(part);
  const hash = hashOf(index, ...[...folders].toSorted());
  return ensurePart(cacheDir, `lab-cache-${hash}`, 24 * GIB, async (stage) => {
    for (const folder of folders) await linkTree(join(cacheDir, folder), join(stage, folder));
    await writeFile(join(stage, 'images.json'), index.replaceAll(`"${cacheDir}/`, '"/var/cache/torpor/'));
    await linkTree(join(cacheDir, 'images'), join(stage, 'images'));
  });
}

/** Complete under its name, or not there. */
async function ensurePart(
  cacheDir: string,
  name: string,
  bytes: number,
  fill: (stage: string) => Promise<void>,
): Promise<string> {
  const image = join(cacheDir, name, 'disk.ext4');
  if (existsSync(image)) return image;
  const making = join(cacheDir, `.${name}-${process.pid}`);
  await rm(making, { recursive: true, force: true });
  await mkdir(join(making, 'stage'), { recursive: true });
  await fill(join(making, 'stage'));
  await makeFileSystem(join(making, 'stage'), join(making, 'disk.ext4'), bytes);
  await rm(join(making, 'stage'), { recursive: true });
  try {
    await rename(making, join(cacheDir, name));
  } catch (err) {
    // Somebody else was faster.
    await rm(making, { recursive: true, force: true });
    if (!existsSync(image)) throw err;
  }
  return image;
}

/** Hard links: the stage only exists to be read once. */
async function linkTree(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await rm(to, { recursive: true, force: true });
  await run('cp', ['--archive', '--link', from, to]).catch(() => run('cp', ['--archive', '--sparse=always', from, to]));
}

async function makeFileSystem(folder: string, target: string, bytes: number): Promise<void> {
  await rm(target, { force: true });
  const options = 'root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0';
  await run('mkfs.ext4', ['-q', '-F', '-E', options, '-m', '0', '-d', folder, target, `${bytes / 1024}k`]);
}

function hashOf(...parts: (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 12);
}
