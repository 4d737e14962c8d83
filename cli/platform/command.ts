import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';

export interface CommandOptions {
  timeoutMs?: number;
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Each line of either stream as it comes, for progress. */
  onLine?: (line: string) => void;
  /** Files that tell more than the last lines of output. */
  logFile?: string;
  uid?: number;
  gid?: number;
}

export interface CommandResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

const KEEP_CHARACTERS = 256 * 1024;
const TAIL_LINES = 15;

/** Runs a program to its end. Rejects only when it could not be started or ran out of time. */
export async function tryCommand(
  argv: readonly [string, ...string[]],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [file, ...args] = argv;
  const timeoutMs = options.timeoutMs ?? 60_000;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...options.env, LC_ALL: 'C', PATH: options.env?.PATH ?? DEFAULT_PATH },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      ...(options.gid === undefined ? {} : { gid: options.gid }),
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      createInterface({ input: child[name] }).on('line', (line) => {
        output[name] = (output[name] + line + '\n').slice(-KEEP_CHARACTERS);
        options.onLine?.(line);
      });
    }
    child.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'it is not installed' : error.message;
      reject(
        new CliError(`cannot run ${file}: ${why}`, {
          cause: error,
          code: error.code === 'ENOENT' ? 'not_installed' : 'failed',
        }),
      );
    });
    child.once('close', (exitCode, signal) => {
      if (exitCode !== null) return resolve({ exitCode, ...output });
      const why = child.killed ? `it did not end within ${timeoutMs / 1000} s` : `it was ended by ${signal}`;
      reject(commandError(argv, why, output, options, child.killed ? EXIT.timeout : EXIT.failed));
    });
  });
}

/** Like tryCommand, and an exit code other than 0 is an error that shows the end of the output. */
export async function runCommand(
  argv: readonly [string, ...string[]],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const result = await tryCommand(argv, options);
  if (result.exitCode !== 0) throw commandError(argv, `exit code ${result.exitCode}`, result, options, EXIT.failed);
  return result;
}

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

function commandError(
  argv: readonly string[],
  why: string,
  output: { stdout: string; stderr: string },
  options: CommandOptions,
  exitCode: (typeof EXIT)[keyof typeof EXIT],
): CliError {
  const text = output.stderr.trim() === '' ? output.stdout : output.stderr;
  const tail = text.trimEnd().split('\n').slice(-TAIL_LINES);
  const shown = tail.join('\n').trim() === '' ? '' : `\n${tail.map((line) => `  | ${line}`).join('\n')}`;
  const log = options.logFile === undefined ? '' : `\n  the whole log: ${options.logFile}`;
  return new CliError(`${argv.join(' ')} failed: ${why}${shown}${log}`, {
    suggestion: 'the command above can be repeated by hand',
    exitCode,
    code: /No space left on device/.test(text) ? 'disk_full' : 'command_failed',
  });
}
