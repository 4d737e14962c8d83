import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';
import type { RotatingLog } from './rotating-log.js';
import type { SystemUser } from './system-users.js';

/** Facts that a process tells when it can serve, such as its address. */
export type ReadyFacts = Record<string, unknown>;

export interface ServiceSpec {
  name: string;
  argv: readonly [string, ...string[]];
  env: Readonly<Record<string, string>>;
  cwd: string;
  runAs?: SystemUser;
  /** Ends it in good order; also sent by the kernel when torpor itself is killed. */
  stopSignal: 'SIGTERM' | 'SIGINT';
  /** How long it may take to end before it is killed. */
  stopMs: number;
  readyMs: number;
  /** The facts of the line by which it says that it serves; undefined for all other lines. */
  readyLine: (line: string) => ReadyFacts | undefined;
}

/** Of sysexits.h, and used by our own processes: the environment is wrong, so starting again is pointless. */
export const EX_CONFIG = 78;

export interface ServiceEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

const TAIL_LINES = 12;
/** How long the last output of an ended process may take to arrive. */
const PIPE_MS = 1_000;

/** One run of one process, from spawn to exit. */
export class Service {
  readonly exited: Promise<ServiceEnd>;
  readonly #child: ChildProcess;
  readonly #tail: string[] = [];
  readonly #ready: Promise<ReadyFacts>;
  #spawnError: Error | undefined;

  constructor(
    private readonly spec: ServiceSpec,
    private readonly log: RotatingLog,
  ) {
    const [file, ...args] = childArgv(spec);
    this.#child = spawn(file, args, {
      cwd: spec.cwd,
      env: { ...spec.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A session of its own, so that Ctrl-C reaches torpor alone, which stops the others in order.
      detached: true,
    });
    this.exited = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#spawnError = error;
        resolve({ code: null, signal: null });
      });
      // Output is complete at `close`. A descendant that holds the pipes may put that off for ever.
      this.#child.once('close', (code, signal) => resolve({ code, signal }));
      this.#child.once('exit', (code, signal) =>
        setTimeout(() => this.#letGo(() => resolve({ code, signal })), PIPE_MS).unref(),
      );
    });
    this.#ready = this.#watchOutput();
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** The last lines of output, for error messages. */
  get tail(): string {
    return this.#tail.map((line) => `  | ${line}`).join('\n');
  }

  /** Resolves when the process says that it serves; rejects when it ends before or takes too long. */
  async ready(): Promise<ReadyFacts> {
    const { name, readyMs } = this.spec;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => (timer = setTimeout(resolve, readyMs, 'late')));
    const outcome = await Promise.race([this.#ready, this.exited.then((end) => ({ end })), late]);
    clearTimeout(timer);
    if (outcome === 'late') {
      throw new CliError(`${name} did not become ready within ${readyMs / 1000} s${this.#shownTail()}`, {
        suggestion: `read ${this.log.file}`,
        exitCode: EXIT.timeout,
      });
    }
    if ('end' in outcome) throw this.#endedEarly(outcome.end as ServiceEnd);
    return outcome;
  }

  /** Asks it to end, insists after its grace time, and returns when it is gone. */
  async stop(): Promise<ServiceEnd> {
    this.#signal(this.spec.stopSignal);
    const timer = setTimeout(() => this.#killGroup(), this.spec.stopMs);
    const end = await this.exited;
    clearTimeout(timer);
    return end;
  }

  #watchOutput(): Promise<ReadyFacts> {
    return new Promise((resolve) => {
      for (const stream of [this.#child.stdout, this.#child.stderr]) {
        if (stream === null) continue;
        createInterface({ input: stream }).on('line', (line) => {
          this.log.write(line);
          this.#tail.push(line);
          if (this.#tail.length > TAIL_LINES) this.#tail.shift();
          const facts = this.spec.readyLine(line);
          if (facts !== undefined) resolve(facts);
        });
      }
    });
  }

  #signal(signal: NodeJS.Signals): void {
    // kill() is harmless once the child was reaped: Node knows that it is gone.
    this.#child.kill(signal);
  }

  /** With what it started and did not put into a session of its own, as virtual machines are. */
  #killGroup(): void {
    try {
      if (this.pid !== undefined) process.kill(-this.pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  #letGo(done: () => void): void {
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
    done();
  }

  #endedEarly(end: ServiceEnd): CliError {
    const why = this.#spawnError?.message ?? describeEnd(end);
    const suggestion = `read ${this.log.file}`;
    return new CliError(`${this.spec.name} ended before it was ready: ${why}${this.#shownTail()}`, {
      suggestion,
      code: end.code === EX_CONFIG ? 'configuration' : 'failed',
    });
  }

  #shownTail(): string {
    return this.#tail.length === 0 ? '' : `\n${this.tail}`;
  }
}

export function describeEnd({ code, signal }: ServiceEnd): string {
  return signal === null ? `exit code ${code}` : `killed by ${signal}`;
}

/**
 * setpriv asks the kernel to signal the child when torpor dies, SIGKILL included, and then
 * becomes the child, so the pid stays the same.
 */
function childArgv({ argv, runAs, stopSignal }: ServiceSpec): [string, ...string[]] {
  const user = runAs === undefined ? [] : [`--reuid=${runAs.uid}`, `--regid=${runAs.gid}`, '--clear-groups'];
  return ['setpriv', '--pdeathsig', stopSignal.slice('SIG'.length), ...user, '--', ...argv];
}

/** The ready line of our own processes: a pino line with the field `ready`. */
export function pinoReady(name: string): (line: string) => ReadyFacts | undefined {
  return (line) => {
    if (!line.includes(`"ready":"${name}"`)) return undefined;
    try {
      return JSON.parse(line) as ReadyFacts;
    } catch {
      return undefined;
    }
  };
}
