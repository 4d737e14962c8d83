import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { hasErrno } from './errno.js';
import { systemFailure } from './system-failure.js';

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
/** `ip`, `nft` and `tc` live in sbin, which the environment of a service often lacks. */
const SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Between SIGTERM and SIGKILL. */
const GRACE_MS = 2_000;

/** Debian's name of what a missing binary belongs to, for the error message. */
const PACKAGE_OF: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  tc: 'iproute2',
  nft: 'nftables',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  tee: 'coreutils',
  getent: 'libc-bin',
  dmsetup: 'dmsetup',
  losetup: 'mount',
  'qemu-img': 'qemu-utils',
  'qemu-system-x86_64': 'qemu-system-x86',
  'qemu-system-aarch64': 'qemu-system-arm',
};

export interface RunOptions {
  /** The command is killed and fails after this long; 30 s by default. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
  input?: string;
  env?: Readonly<Record<string, string>>;
}

export interface SpawnDetachedOptions {
  /** Gets both output streams, appended. */
  logFile: string;
  /** Gets standard output instead, appended; it exists already. */
  outputFile?: string;
  /** Open descriptors that the process inherits as 3, 4, … */
  fds?: readonly number[];
  env?: Readonly<Record<string, string>>;
}

/**
 * The only way this process starts others: argument vectors, never a shell; a
 * deadline; cancellation; a typed failure that can be repeated by hand.
 */
export interface Exec {
  run(argv: readonly string[], options?: RunOptions): Promise<{ stdout: string; stderr: string }>;
  /** A process in a session of its own that outlives this one. Resolves as soon as it runs. */
  spawnDetached(argv: readonly string[], options: SpawnDetachedOptions): Promise<{ pid: number }>;
}

interface CommandOutcome {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
  timedOut: boolean;
}

export class CommandError extends Error {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  readonly timedOut: boolean;

  constructor(
    readonly argv: readonly string[],
    outcome: CommandOutcome,
    options?: ErrorOptions,
  ) {
    super(`\`${printable(argv)}\` ${ending(outcome)}`, options);
    this.name = 'CommandError';
    this.exitCode = outcome.exitCode;
    this.signal = outcome.signal;
    this.stderr = outcome.stderr;
    this.timedOut = outcome.timedOut;
  }
}

export class ChildProcessExec implements Exec {
  constructor(private readonly searchPath: string = SEARCH_PATH) {}

  run(argv: readonly string[], options: RunOptions = {}): Promise<{ stdout: string; stderr: string }> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal, input } = options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const child = this.#start(argv, options.env, ['pipe', 'pipe', 'pipe']);
      const stdout = new BoundedOutput(child.stdout);
      const stderr = new BoundedOutput(child.stderr);
      let timedOut = false;
      let kill: NodeJS.Timeout | undefined;
      const stop = (): void => {
        child.kill('SIGTERM');
        kill ??= setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
      };
      const deadline = setTimeout(() => {
        timedOut = true;
        stop();
      }, timeoutMs);
      const settle = (): void => {
        clearTimeout(deadline);
        clearTimeout(kill);
        signal?.removeEventListener('abort', stop);
      };
      signal?.addEventListener('abort', stop, { once: true });
      child.once('error', (cause) => {
        settle();
        reject(this.#notStarted(argv, cause));
      });
      child.once('close', (exitCode, killedBy) => {
        settle();
        if (exitCode === 0 && !timedOut) return resolve({ stdout: stdout.text(), stderr: stderr.text() });
        // The reason of whoever cancelled, so that callers tell it from a failure.
        if (signal?.aborted === true) return reject(signal.reason as Error);
        return reject(new CommandError(argv, { exitCode, signal: killedBy, stderr: stderr.text(), timedOut }));
      });
      // A command may end without reading its input; its exit code tells more than EPIPE.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
    });
  }

  async spawnDetached(argv: readonly string[], options: SpawnDetachedOptions): Promise<{ pid: number }> {
    const { logFile, outputFile, env, fds = [] } = options;
    const log = await open(logFile, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND, 0o600);
    let output: FileHandle | undefined;
    try {
      if (outputFile !== undefined) output = await open(outputFile, constants.O_WRONLY | constants.O_APPEND);
      const child = this.#start(argv, env, ['ignore', (output ?? log).fd, log.fd, ...fds], true);
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', (cause) => reject(this.#notStarted(argv, cause)));
      });
      child.unref();
      if (child.pid === undefined) throw new Error(`\`${printable(argv)}\` was started without a process id`);
      return { pid: child.pid };
    } finally {
      await log.close();
      await output?.close();
    }
  }

  #start(
    argv: readonly string[],
    env: Readonly<Record<string, string>> | undefined,
    stdio: ('pipe' | 'ignore' | number)[],
    detached = false,
  ): ChildProcess {
    const [command, ...args] = argv;
    if (command === undefined) throw new TypeError('an empty command cannot be run');
    // Nothing else of this process's environment: it holds credentials, and what is parsed must be in English.
    const environment = { PATH: this.searchPath, LC_ALL: 'C', ...env };
    try {
      return spawn(command, args, { cwd: '/', env: environment, stdio, detached });
    } catch (cause) {
      // Some refusals, such as of memory, are thrown here and not reported by the child.
      throw this.#notStarted(argv, cause);
    }
  }

  #notStarted(argv: readonly string[], cause: unknown): Error {
    const command = argv[0] ?? '';
    if (!hasErrno(cause, 'ENOENT')) {
      const doing = `starting \`${printable(argv)}\``;
      return systemFailure(cause, doing) ?? new Error(`${doing} failed`, { cause });
    }
    const stderr = `${command} is not installed or not on the path ${this.searchPath}; ${installing(command)}`;
    return new CommandError(argv, { exitCode: 127, signal: null, stderr, timedOut: false }, { cause });
  }
}

/** What to do about a command that is missing. */
export function installing(command: string): string {
  const owner = PACKAGE_OF[command];
  return owner === undefined ? 'install it' : `install it: apt-get install ${owner}`;
}

/** Keeps the end of a stream, where the reason of a failure is; what does not fit is counted. */
class BoundedOutput {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #dropped = 0;

  constructor(stream: NodeJS.ReadableStream | null) {
    stream?.on('data', (chunk: Buffer) => this.#add(chunk));
  }

  text(): string {
    const kept = Buffer.concat(this.#chunks).toString('utf8');
    return this.#dropped === 0 ? kept : `[${this.#dropped} bytes left out]\n${kept}`;
  }

  #add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes > MAX_OUTPUT_BYTES && this.#chunks.length > 1) {
      const first = this.#chunks.shift()?.length ?? 0;
      this.#bytes -= first;
      this.#dropped += first;
    }
  }
}

function ending(outcome: CommandOutcome): string {
  const how = outcome.timedOut
    ? 'was killed at its deadline'
    : outcome.exitCode === null
      ? `was ended by ${outcome.signal ?? 'an unknown signal'}`
      : `failed with exit code ${outcome.exitCode}`;
  const lastLine = outcome.stderr.trimEnd().split('\n').at(-1)?.trim() ?? '';
  return lastLine === '' ? how : `${how}: ${lastLine}`;
}

/** As one could paste it into a shell. */
function printable(argv: readonly string[]): string {
  return argv.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", `'\\''`)}'`)).join(' ');
}
