import { readdir, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';
import { type ProcessIdentity, isAlive } from '../vmm/vm-process.js';
import type { FileIdentity } from './workspace.js';

/** Memory is read at what the disk gives; beyond this something hangs. */
const TIMEOUT_MS = 10 * 60_000;
const LONGEST_PAUSE_MS = 50;

/**
 * Whether a VM still reads the memory that it was restored from. The VMM reports no event at the end of that. But what
 * reads the file in the background holds it open for just as long, and the kernel tells what a process holds open; that
 * does not depend on how a version of the VMM does its work.
 */
export async function isLoading(process: ProcessIdentity, memory: FileIdentity): Promise<boolean> {
  const held = await identities(`/proc/${process.pid}/fd`);
  return held.some(({ dev, ino }) => dev === memory.dev && ino === memory.ino) && (await isAlive(process));
}

export async function untilLoaded(
  id: string,
  process: ProcessIdentity,
  memory: FileIdentity,
  signal?: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + TIMEOUT_MS;
  for (let pause = 1; await isLoading(process, memory); pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    if (Date.now() > deadline) {
      throw new DomainError(
        'timeout',
        `the VM of ${id} still reads its saved memory after ${TIMEOUT_MS / 60_000} minutes; see \`ls -l /proc/${process.pid}/fd\``,
      );
    }
    signal?.throwIfAborted();
    await delay(pause);
  }
}

async function identities(directory: string): Promise<FileIdentity[]> {
  try {
    const names = await readdir(directory);
    return (await Promise.all(names.map((name) => identityOf(`${directory}/${name}`)))).flat();
  } catch (err) {
    if (hasErrno(err, 'ENOENT') || hasErrno(err, 'ESRCH')) return [];
    throw err;
  }
}

/** Of what the link leads to, wherever that is by now; nothing when it was closed meanwhile. */
async function identityOf(path: string): Promise<FileIdentity[]> {
  try {
    const { dev, ino } = await stat(path);
    return [{ dev, ino }];
  } catch (err) {
    if (hasErrno(err, 'ENOENT') || hasErrno(err, 'ESRCH')) return [];
    throw err;
  }
}
