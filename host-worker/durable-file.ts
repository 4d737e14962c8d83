import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DomainError } from '../workflows/contract/errors.js';
import { isAbsent, isDiskFull } from './errno.js';
import { CommandError } from './exec.js';
import { saysDiskFull, systemFailure } from './system-failure.js';

/** Forces a file, or a directory's list of names, to stable storage. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Replaces `path` at once and for good: after a crash it has either its old or its new
 * content, and when this has returned, the new one. The file itself is not enough:
 * until its directory is synced too, the name may be lost.
 */
export async function writeDurably(path: string, content: string, mode = 0o600): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}`);
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renameDurably(temporary, path);
  } catch (err) {
    await rm(temporary, { force: true });
    throw storageFailure(err, `writing ${path}`);
  }
}

/** Renames a file or directory within one file system; the new name is on stable storage afterwards. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncPath(dirname(to));
  if (dirname(from) !== dirname(to)) await syncPath(dirname(from));
}

/** Deletes a file that may be absent; it does not come back after a crash. */
export async function removeDurably(path: string): Promise<void> {
  await rm(path, { force: true });
  await syncPath(dirname(path));
}

/**
 * Tells what the machine refuses from what nobody expected, which is returned as it came.
 * Retrying cannot mend a full disk; the other refusals say what to look at.
 */
export function storageFailure(err: unknown, doing: string): unknown {
  if (err instanceof DomainError) return err;
  const printed = err instanceof CommandError && saysDiskFull(err.stderr);
  if (!isDiskFull(err) && !printed) return systemFailure(err, doing) ?? err;
  const reason = err instanceof Error ? err.message : String(err);
  return new DomainError(
    'disk_full',
    `no space left while ${doing}: ${reason}; see \`df -h\` on the host`,
    {},
    { cause: err },
  );
}

/** Deletes a file or a whole directory, which may be absent. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (err) {
    if (!isAbsent(err)) throw err;
  }
}
