import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { isAbsent } from '../../errno.js';
import type { SandboxFolders } from '../../sandbox-folder.js';
import { readTail } from './vm-folder.js';
import type { VmUser } from './vm-user.js';

const MAX_BYTES = 4 * 1024 * 1024;
const KEPT_BYTES = 256 * 1024;

/**
 * What guests print on their serial ports, in the sandbox's folder: it outlives the VM,
 * because it is most needed when the VM did not live. The VMM appends to it.
 */
export class ConsoleLogs {
  constructor(private readonly folders: SandboxFolders) {}

  path(id: string): string {
    return join(this.folders.path(id), 'console.log');
  }

  async prepare(id: string, owner: VmUser): Promise<void> {
    await this.#cut(id);
    const handle = await open(this.path(id), constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND, 0o600);
    try {
      await handle.chown(owner.uid, owner.gid);
    } finally {
      await handle.close();
    }
  }

  async tail(id: string, maxBytes: number): Promise<string> {
    try {
      return (await readTail(this.path(id), maxBytes)).toString('utf8');
    } catch (err) {
      if (!isAbsent(err)) throw err;
      throw new DomainError('not_found', `there is no console log of ${id} on this host`, {}, { cause: err });
    }
  }

  async trim(): Promise<void> {
    for (const id of await this.folders.list()) await this.#cut(id);
  }

  /** The VMM appends, so it goes on behind whatever is left; what it prints in between may be lost. */
  async #cut(id: string): Promise<void> {
    try {
      if ((await stat(this.path(id))).size <= MAX_BYTES) return;
      const kept = await readTail(this.path(id), KEPT_BYTES);
      const handle = await open(this.path(id), constants.O_WRONLY | constants.O_APPEND);
      try {
        await handle.truncate(0);
        await handle.writeFile(kept);
      } finally {
        await handle.close();
      }
    } catch (err) {
      if (!isAbsent(err)) throw err;
    }
  }
}
