import { EXIT, type ExitCode } from './exit-codes.js';

/** An expected failure: what failed and why, what to do about it, and the exit code that says so. */
export class CliError extends Error {
  readonly suggestion: string | undefined;
  readonly exitCode: ExitCode;
  /** Code of the API's error table, when the API said it. */
  readonly code: string;

  constructor(
    message: string,
    options: { suggestion?: string | undefined; exitCode?: ExitCode; code?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'CliError';
    this.suggestion = options.suggestion;
    this.exitCode = options.exitCode ?? EXIT.failed;
    this.code = options.code ?? 'failed';
  }
}

/** Errors of Node's system calls that have a plain meaning for whoever runs the command. */
export function toCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (!(error instanceof Error)) return new CliError(String(error));
  const { code, path } = error as NodeJS.ErrnoException;
  const where = path === undefined ? '' : ` (${path})`;
  switch (code) {
    case 'ENOSPC':
      return new CliError(`the disk is full${where}`, {
        suggestion: 'free some space (`df -h` shows where it went) and run the command again',
        code: 'disk_full',
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new CliError(`not allowed: ${error.message}`, {
        suggestion: 'run it as root, or choose directories of your own with TORPOR_HOME and TORPOR_CACHE_DIR',
        cause: error,
      });
    default:
      return new CliError(error.message, { cause: error });
  }
}
