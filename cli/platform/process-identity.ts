import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Which process this is, so that a pid that the kernel gave to somebody else, before or
 * after a reboot, is never mistaken for it.
 */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks from boot to the start of the process. */
  startTime: string;
  bootId: string;
}

export function identityOf(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name in parentheses, and may hold blanks and
    // parentheses itself: count from the last one. The start time is field 22.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, startTime] = [fields[0], fields[19]];
    if (startTime === undefined || state === 'Z' || state === 'X') return undefined;
    return { pid, startTime, bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim() };
  } catch {
    return undefined;
  }
}

export function isAlive(identity: ProcessIdentity): boolean {
  const now = identityOf(identity.pid);
  return now !== undefined && now.startTime === identity.startTime && now.bootId === identity.bootId;
}

/**
 * Ends a process that is not our child: asks, waits, insists. There is no event for the end
 * of somebody else's child, so /proc is looked at with a growing pause.
 */
export async function endProcess(
  identity: ProcessIdentity,
  graceMs: number,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<void> {
  for (const attempt of [signal, 'SIGKILL'] as const) {
    if (!isAlive(identity)) return;
    try {
      process.kill(identity.pid, attempt);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw error;
    }
    const deadline = Date.now() + graceMs;
    for (let pause = 10; isAlive(identity) && Date.now() < deadline; pause = Math.min(pause * 2, 200))
      await delay(pause);
  }
  if (isAlive(identity)) throw new Error(`process ${identity.pid} cannot be ended: it does not react to SIGKILL`);
}
