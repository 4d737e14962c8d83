import { mkdir, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
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
    await mkdir(path, { recursive: true, mode: 0o711 });
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
  async list(): Promise<string[]> {
    return namesIn(this.root);
  }
}

/** Ids become file names, interface names and arguments. */
export function checkedId(id: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,63}$/i.test(id)) return id;
  throw new DomainError('invalid_request', `"${id}" is not an id: letters, digits, "-" and "_", at most 64 of them`);
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
