import { DomainError } from '../workflows/contract/errors.js';

/**
 * Refusals of the operating system that are neither a bug nor a full disk: the machine is
 * in a state that somebody has to look at. Each as a sentence with the command to look with.
 */
const EXPLAINED: Readonly<Record<string, (path: string) => string>> = {
  ENOTDIR: (path) => `a file is in the place of a directory; see \`namei -l ${path}\` and move the file away`,
  EEXIST: (path) => `a file is in the place of a directory; see \`ls -ld ${path}\` and move the file away`,
  EROFS: (path) => `its file system is read-only; see \`findmnt -T ${path}\` and \`dmesg\`, then mount it writable`,
  EACCES: (path) => `this worker may not open it; see \`namei -l ${path}\` and correct owner or mode`,
  EMFILE: () => 'this worker has too many files open; raise its limit (LimitNOFILE, `ulimit -n`) and restart it',
  ENOMEM: () => 'the machine is out of memory; see `free -m` and end something, or offer less capacity',
};

interface SystemError {
  code: string;
  path?: string;
  syscall?: string;
}

/** Such a refusal as an expected failure; undefined for everything else. */
export function systemFailure(err: unknown, doing?: string): DomainError | undefined {
  if (!isSystemError(err)) return undefined;
  // A file may be there for many reasons; only where a directory was to be made is it in the way.
  if (err.code === 'EEXIST' && err.syscall !== 'mkdir') return undefined;
  const explain = Object.hasOwn(EXPLAINED, err.code) ? EXPLAINED[err.code] : undefined;
  if (explain === undefined) return undefined;
  const where = err.path ?? 'the system';
  const sentence = `${doing === undefined ? '' : `${doing} failed: `}${where}: ${explain(err.path ?? '/')} (${err.code})`;
  const details = { errno: err.code, ...(err.path === undefined ? {} : { path: err.path }) };
  return new DomainError('command_failed', sentence, details, { cause: err });
}

/** By its shape, as the errors of Node's own modules are not instances of every realm's `Error`. */
function isSystemError(err: unknown): err is SystemError {
  return typeof err === 'object' && err !== null && 'code' in err && typeof err.code === 'string';
}
