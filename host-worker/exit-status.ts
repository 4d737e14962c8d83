import { DomainError, type ErrorCode } from '../workflows/contract/errors.js';
import { CommandError } from './exec.js';
import { StartError } from './start-error.js';

/** Of sysexits.h: what this process was given is wrong. Whoever keeps it running must not start it again. */
const EX_CONFIG = 78;

/** At start these mean that somebody must correct a setting, a token or the machine. */
const NEEDS_SOMEBODY: readonly ErrorCode[] = ['unsupported', 'unauthorized', 'forbidden', 'invalid_request'];

/** The exit code of a process that could not go on: whether another start may mend it. */
export function exitStatusOf(err: unknown): number {
  if (err instanceof StartError) return EX_CONFIG;
  return err instanceof DomainError && NEEDS_SOMEBODY.includes(err.code) ? EX_CONFIG : 1;
}

/** A bug shows where it is; what was to be expected is said in words. */
export function lastWords(err: unknown): string {
  if (err instanceof StartError || err instanceof DomainError || err instanceof CommandError) return err.message;
  return err instanceof Error ? (err.stack ?? err.message) : String(err);
}
