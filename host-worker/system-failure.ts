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
  ENFILE: () =>
    'the machine has too many files open; see `sysctl fs.file-nr`, then raise `fs.file-max` or end something',
  EAGAIN: () => 'the machine has no room for another process; see `ulimit -u`, `sysctl kernel.pid_max` and `free -m`',
  EISDIR: (path) => `a directory is in the place of a file; see \`ls -la ${path}\` and move the directory away`,
  EIO: (path) => `the disk below it does not work; see \`dmesg\` and \`findmnt -T ${path}\``,
  ENOMEM: () => 'the machine is out of memory; see `free -m` and end something, or offer less capacity',
};

/** What commands and VMMs print of the same refusals. */
const PRINTED: readonly { says: RegExp; explained: string }[] = [
  {
    says: /Cannot allocate memory|cannot set up guest memory|Out of memory/i,
    explained: 'the machine is out of memory; see `free -m` and end something, or offer less capacity',
  },
  { says: /Too many open files/, explained: 'too many files are open; see `ulimit -n` and `sysctl fs.file-nr`' },
  {
    says: /Resource temporarily unavailable|Cannot fork/i,
    explained: 'the machine has no room for another process; see `ulimit -u` and `sysctl kernel.pid_max`',
  },
  { says: /Read-only file system/, explained: 'the file system is read-only; see `findmnt` and `dmesg`' },
  { says: /Input\/output error/, explained: 'the disk below does not work; see `dmesg`' },
];

/** What is behind the words that a command or a VMM ended with; undefined when it is none of the machine's refusals. */
export function printedRefusal(text: string): string | undefined {
  return PRINTED.find(({ says }) => says.test(text))?.explained;
}

export function saysDiskFull(text: string): boolean {
  return /No space left on device|Disk quota exceeded/.test(text);
}

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
  // Of a process that cannot be started, Node gives the command as the path; it was named already.
  const where = err.syscall?.startsWith('spawn') ? 'the system' : (err.path ?? 'the system');
  const sentence = `${doing === undefined ? '' : `${doing} failed: `}${where}: ${explain(err.path ?? '/')} (${err.code})`;
  const details = { errno: err.code, ...(err.path === undefined ? {} : { path: err.path }) };
  return new DomainError('command_failed', sentence, details, { cause: err });
}

/** By its shape, as the errors of Node's own modules are not instances of every realm's `Error`. */
function isSystemError(err: unknown): err is SystemError {
  return typeof err === 'object' && err !== null && 'code' in err && typeof err.code === 'string';
}
