import { readFile, readdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DomainError } from '../../../workflows/contract/errors.js';
import { currentBoot } from '../../boot-id.js';
import { hasErrno } from '../../errno.js';

/** A process beyond doubt: numbers are reused, but not with the same start time in the same boot. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks after boot. */
  startTime: string;
  bootId: string;
}

export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readStat(pid);
  return stat === undefined ? undefined : { pid, startTime: stat.startTime, bootId: await currentBoot() };
}

export async function isAlive(process: ProcessIdentity): Promise<boolean> {
  const stat = await readStat(process.pid);
  if (stat === undefined || stat.startTime !== process.startTime) return false;
  if ((await currentBoot()) !== process.bootId) return false;
  // The leader can be a zombie while its other threads still hold the disk and the tap.
  return stat.state !== 'Z' || (await threads(process.pid)) > 1;
}

/** SIGKILL, and back when nothing of the process is left. */
export async function killProcess(target: ProcessIdentity, deadlineMs: number): Promise<void> {
  if (!(await isAlive(target))) return;
  try {
    process.kill(target.pid, 'SIGKILL');
  } catch (err) {
    if (!hasErrno(err, 'ESRCH')) throw err;
  }
  // Node offers no event for the end of a process that is not its child.
  const deadline = Date.now() + deadlineMs;
  for (let pause = 1; await isAlive(target); pause = Math.min(pause * 2, 25)) {
    if (Date.now() > deadline) {
      throw new DomainError(
        'command_failed',
        `process ${target.pid} is still there ${deadlineMs} ms after SIGKILL; see /proc/${target.pid}/stack`,
      );
    }
    await delay(pause);
  }
}

/** Processes with `needle` in one of their arguments, such as the path of a socket only one VM can have. */
export async function findByArgument(needle: string): Promise<ProcessIdentity[]> {
  const found: ProcessIdentity[] = [];
  for await (const { pid, argv } of processes()) {
    if (!argv.some((arg) => arg.includes(needle))) continue;
    const identity = await identify(pid);
    if (identity !== undefined) found.push(identity);
  }
  return found;
}

/** What the first group of `pattern` matches in the arguments of any process. */
export async function matchesInArguments(pattern: RegExp): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const { argv } of processes()) {
    for (const arg of argv) {
      const match = pattern.exec(arg)?.[1];
      if (match !== undefined) found.add(match);
    }
  }
  return found;
}

/** Undefined when there is no such process. */
export async function argumentsOf(pid: number): Promise<string[] | undefined> {
  return (await readOrNothing(`/proc/${pid}/cmdline`))?.split('\0');
}

async function* processes(): AsyncGenerator<{ pid: number; argv: string[] }> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const argv = await argumentsOf(Number(name));
    if (argv !== undefined) yield { pid: Number(name), argv };
  }
}

async function readStat(pid: number): Promise<{ state: string; startTime: string } | undefined> {
  const line = await readOrNothing(`/proc/${pid}/stat`);
  // The name in parentheses may contain anything, so fields are counted from its end.
  const fields = line?.slice(line.lastIndexOf(')') + 2).split(' ');
  const [state, startTime] = [fields?.[0], fields?.[19]];
  return state === undefined || startTime === undefined ? undefined : { state, startTime };
}

async function threads(pid: number): Promise<number> {
  try {
    return (await readdir(`/proc/${pid}/task`)).length;
  } catch {
    return 0; // gone meanwhile
  }
}

async function readOrNothing(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (err) {
    if (hasErrno(err, 'ENOENT') || hasErrno(err, 'ESRCH')) return undefined;
    throw err;
  }
}
