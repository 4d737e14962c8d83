import { readFile } from 'node:fs/promises';
import { isAbsent } from '../../host-worker/errno.js';

/** One line that a simulated VMM wrote about itself. */
export interface LedgerEntry {
  id: string;
  /** `refused`: it could not have its disk or its tap and never ran. */
  event: 'started' | 'ended' | 'refused';
  pid: number;
  /** Clock ticks after boot; tells a process from others with its pid. */
  startTime: string;
  nonce?: string;
  restoredFrom?: string;
  /** How it ended (`quit`, `poweroff`, `signal`), or why it was refused. A VMM that was killed leaves no such line. */
  how?: string;
  /** VMMs of the same id that lived when this one started. */
  alsoAlive?: number[];
  time: string;
}

export async function readLedger(path: string): Promise<LedgerEntry[]> {
  const text = await readFile(path, 'utf8').catch((err: unknown) => {
    if (isAbsent(err)) return '';
    throw err;
  });
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LedgerEntry);
}

/** Every time that two VMMs of one id lived at once, or one tried to; a sentence each. Must be empty. */
export function doubledVmms(entries: readonly LedgerEntry[]): string[] {
  return entries.flatMap(({ id, event, pid, time, how, alsoAlive }) => {
    if (event === 'refused') return [`${time}: VMM ${pid} of ${id} was refused: ${how}`];
    if (alsoAlive === undefined) return [];
    return [`${time}: VMM ${pid} of ${id} started while ${alsoAlive.join(', ')} lived`];
  });
}
