import { chmod, chown } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { VmStatus } from '../../../activities/host/contract.js';
import type { VmSpec } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';
import type { VmCgroup } from './vm-cgroup.js';
import { type ProcessIdentity, identify, isAlive } from './vm-process.js';
import type { VmUser } from './vm-user.js';

const LONGEST_PAUSE_MS = 20;

/** Told what a VM has to do without. */
type Warn = ((fields: Record<string, unknown>, message: string) => void) | undefined;

/** Whether there is anything to start: not where it runs. One that stands still is in the middle of somebody's operation. */
export function isToStart(id: string, status: VmStatus): boolean {
  if (status !== 'frozen') return status === 'absent';
  throw new DomainError('state_conflict', `the VM of ${id} exists and is frozen: unfreeze or kill it first`);
}

/** From here on the disk is the VM's own, and nobody else's but root's. */
export async function giveDisk(user: VmUser, id: string, { disk }: VmSpec): Promise<void> {
  try {
    await chown(disk.path, user.uid, user.gid);
    await chmod(disk.path, 0o600);
  } catch (err) {
    if (hasErrno(err, 'ENOENT')) throw missingDisk(id, disk.path, err);
    throw err;
  }
}

export function missingDisk(id: string, path: string, cause: unknown): DomainError {
  return new DomainError('not_found', `the disk of ${id} is missing: ${path}`, {}, { cause });
}

/** Of the VM's process, right after it was spawned. */
export async function identifySpawned(id: string, pid: number): Promise<ProcessIdentity> {
  const process = await identify(pid);
  if (process !== undefined) return process;
  throw new DomainError('command_failed', `the process of VM ${id} ended at once`);
}

/** Puts the VM's process into its group; where there can be none it runs without, and that is said. */
export async function confine(
  id: string,
  group: VmCgroup,
  pid: number,
  limits: { vcpus: number; memoryMb: number },
  warn: Warn,
): Promise<void> {
  const missing = await group.adopt(pid, limits);
  if (missing !== undefined) warn?.({ sandboxId: id, reason: missing }, 'VM without a control group');
}

/**
 * Repeats what asks the process for its first sign of life. There is no event for a socket that begins to listen, only
 * for a process that will not.
 */
export async function untilItAnswers<T>(
  process: ProcessIdentity,
  ask: () => Promise<T>,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (let pause = 2; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    try {
      return await ask();
    } catch (err) {
      signal?.throwIfAborted();
      if (Date.now() > deadline || !(await isAlive(process))) throw err;
      await delay(pause, undefined, { signal });
    }
  }
}
