import { constants } from 'node:fs';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { syncPath } from './durable-file.js';
import { hasErrno } from './errno.js';
import type { Exec } from './exec.js';

/** Blocks shared until either copy is written to, or every byte that is not zero read and written. */
export type CopyMethod = 'reflink' | 'sparse';

/** Many gigabytes on a slow disk; whoever cannot wait has a signal. */
const TIMEOUT_MS = 60 * 60 * 1_000;

/** What the kernel answers where a file system, or a pair of them, cannot share blocks. */
const CANNOT_SHARE = ['ENOTSUP', 'EOPNOTSUPP', 'ENOTTY', 'ENOSYS', 'EXDEV', 'EINVAL', 'EPERM'];

/**
 * Makes `to`, which must not exist, a copy of the file `from` in the way that costs least, and
 * says which that was. Its content is on stable storage afterwards; its name is the caller's
 * business. Fails with nothing left.
 */
export async function copyDurably(exec: Exec, from: string, to: string, signal?: AbortSignal): Promise<CopyMethod> {
  signal?.throwIfAborted();
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
  } catch (err) {
    if (!cannotShare(err)) throw err;
    await rm(to, { force: true });
    await copySparsely(exec, from, to, signal);
    return 'sparse';
  }
  await syncPath(to);
  return 'reflink';
}

/** As above, of a file or of a block device, without sharing: blocks of zeros become holes. */
export async function copySparsely(exec: Exec, from: string, to: string, signal?: AbortSignal): Promise<void> {
  try {
    const argv = ['cp', '--reflink=never', '--sparse=always', '--', from, to];
    await exec.run(argv, { timeoutMs: TIMEOUT_MS, signal });
    await syncPath(to);
  } catch (err) {
    await rm(to, { force: true });
    throw err;
  }
}

/** Tried, as only that tells: the same file system can do it on one kernel or with one set of options and not on another. */
export async function canReflink(directory: string): Promise<{ possible: boolean; why: string }> {
  const probe = await mkdtemp(join(directory, '.torpor-reflink-'));
  try {
    await writeFile(join(probe, 'a'), Buffer.alloc(4096, 1));
    await copyFile(join(probe, 'a'), join(probe, 'b'), constants.COPYFILE_FICLONE_FORCE);
    return { possible: true, why: `copies in ${directory} share their blocks` };
  } catch (err) {
    if (!cannotShare(err)) throw err;
    const { code } = err as NodeJS.ErrnoException;
    return { possible: false, why: `the file system of ${directory} cannot share blocks (${code})` };
  } finally {
    await rm(probe, { recursive: true, force: true });
  }
}

function cannotShare(err: unknown): boolean {
  return CANNOT_SHARE.some((code) => hasErrno(err, code));
}
