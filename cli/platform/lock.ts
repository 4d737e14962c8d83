import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';
import { identityOf, isAlive, type ProcessIdentity } from './process-identity.js';

export interface Lock {
  release(): void;
}

/**
 * One `torpor up` per directory. The file names its holder by pid, start time and boot, so
 * a holder that crashed is recognised even when its pid is in use again.
 */
export function acquireLock(file: string, holder: ProcessIdentity = ownIdentity()): Lock {
  const fresh = `${file}.${randomBytes(6).toString('hex')}`;
  // Written beside and linked into place: nobody ever reads a lock that is not complete.
  writeFileSync(fresh, JSON.stringify(holder), { mode: 0o644 });
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      if (tryLink(fresh, file)) return { release: () => releaseLock(file, holder) };
      const current = readHolder(file);
      if (current !== undefined && isAlive(current)) throw heldBy(current, file);
      removeStale(file, current);
    }
  } finally {
    rmSync(fresh, { force: true });
  }
  throw new CliError(`the lock ${file} keeps changing hands`, { exitCode: EXIT.conflict, code: 'locked' });
}

/** The process that holds the lock, if it lives. */
export function lockHolder(file: string): ProcessIdentity | undefined {
  const holder = readHolder(file);
  return holder !== undefined && isAlive(holder) ? holder : undefined;
}

function ownIdentity(): ProcessIdentity {
  const own = identityOf(process.pid);
  if (own === undefined) throw new CliError('/proc is not mounted, and torpor needs it');
  return own;
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function readHolder(file: string): ProcessIdentity | undefined {
  try {
    const { pid, startTime, bootId } = JSON.parse(readFileSync(file, 'utf8')) as Partial<ProcessIdentity>;
    return pid === undefined || startTime === undefined || bootId === undefined
      ? undefined
      : { pid, startTime, bootId };
  } catch {
    return undefined; // gone meanwhile, or written by a machine that lost power: not a live holder's
  }
}

/**
 * Between reading a stale lock and removing it another process may have done the same and
 * taken the lock. So it is moved away first and put back if it was not the stale one.
 */
function removeStale(file: string, stale: ProcessIdentity | undefined): void {
  const moved = `${file}.stale-${randomBytes(6).toString('hex')}`;
  try {
    renameSync(file, moved);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const found = readHolder(moved);
  if (found !== undefined && (found.pid !== stale?.pid || found.startTime !== stale.startTime)) tryLink(moved, file);
  rmSync(moved, { force: true });
}

function releaseLock(file: string, holder: ProcessIdentity): void {
  const current = readHolder(file);
  if (current?.pid === holder.pid && current.startTime === holder.startTime) rmSync(file, { force: true });
}

function heldBy(holder: ProcessIdentity, file: string): CliError {
  return new CliError(`another torpor runs on this directory: process ${holder.pid} holds ${file}`, {
    suggestion: `use that one, stop it with \`kill ${holder.pid}\`, or choose another directory with --home`,
    exitCode: EXIT.conflict,
    code: 'locked',
  });
}
