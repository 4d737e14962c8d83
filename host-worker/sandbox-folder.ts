import { access, mkdir, readdir, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DomainError } from '../workflows/contract/errors.js';
import { hasErrno, isAbsent } from './errno.js';

/**
 * Everything durable of one sandbox is below `<dataDir>/sandboxes/<id>`: its disk, its
 * saved memory and its console. The folder can be entered but not listed by others,
 * because the VMM's user opens the disk in it.
 */
export class SandboxFolders {
  readonly root: string;

  constructor(dataDir: string) {
    this.root = join(dataDir, 'sandboxes');
  }

  /** Refuses what is not an id before it becomes part of a path. */
  path(id: string): string {
    return join(this.root, checkedId(id));
  }

  async ensure(id: string): Promise<string> {
    const path = this.path(id);
    await makeDirectory(path, 0o711);
    return path;
  }

  async removeIfEmpty(id: string): Promise<void> {
    try {
      await rmdir(this.path(id));
    } catch (err) {
      if (!isAbsent(err) && !hasErrno(err, 'ENOTEMPTY')) throw err;
    }
  }

  /** Ids of all sandboxes that have a folder. */
  list(): Promise<string[]> {
    return idsIn(this.root);
  }
}

/** With what is missing above it. */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode });
  } catch (err) {
    if (!hasErrno(err, 'ENOENT')) throw err;
    // Node says so of a read-only file system too. Making the first that is missing tells what is really in the way.
    await mkdir(await firstMissing(path), { mode });
    await mkdir(path, { recursive: true, mode });
  }
}

async function firstMissing(path: string): Promise<string> {
  const parent = dirname(path);
  try {
    await access(parent);
    return path;
  } catch (err) {
    if (!hasErrno(err, 'ENOENT')) throw err;
    return firstMissing(parent);
  }
}

const ID = /^[a-z0-9][a-z0-9_-]{0,63}$/i;

/** Ids become file names, interface names and arguments. */
export function checkedId(id: string): string {
  if (ID.test(id)) return id;
  throw new DomainError('invalid_request', `"${id}" is not an id: letters, digits, "-" and "_", at most 64 of them`);
}

/** Names in a directory that are ids; what else is there, such as `lost+found`, is somebody else's. */
export async function idsIn(dir: string): Promise<string[]> {
  return (await namesIn(dir)).filter((name) => ID.test(name));
}

/** Names in a directory that may not exist. */
export async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (err) {
    if (isAbsent(err)) return [];
    throw err;
  }
}
