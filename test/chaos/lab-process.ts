import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { RotatingLog } from '../../cli/platform/rotating-log.js';
import type { ServiceSpec } from '../../cli/platform/service.js';
import type { Lab } from '../lab/lab.js';
import type { Killable } from './chaos-process.js';

const READY_MS = 300_000;
const STOP_MS = 120_000;
/** Says its own pid and then becomes the program. */
const ANNOUNCED = ['/bin/sh', '-c', 'echo "pid $$"; exec "$@"', 'announced'] as const;

/** One run of a process in a lab. */
interface Run {
  pid: number;
  ended: Promise<string>;
}

/** A process of the platform that runs in a lab, and is killed there. */
export class LabProcess implements Killable {
  readonly #log: RotatingLog;
  #run: Run | undefined;
  #wanted = false;

  constructor(
    private readonly lab: Lab,
    private readonly spec: ServiceSpec,
    logFile: string,
    /** Told when it ended although nobody killed it. */
    private readonly endedByItself: (why: string) => void,
  ) {
    this.#log = new RotatingLog(logFile);
  }

  /** In the lab. */
  get pid(): number {
    if (this.#run === undefined) throw new Error(`${this.spec.name} was never started`);
    return this.#run.pid;
  }

  get logFile(): string {
    return this.#log.file;
  }

  async start(): Promise<void> {
    this.#wanted = true;
    this.#log.write(`--- ${new Date().toISOString()} starting in the lab: ${this.spec.argv.join(' ')}`);
    const run: Run = { pid: 0, ended: Promise.resolve('') };
    let late: NodeJS.Timeout | undefined;
    const ready = new Promise<'ready'>((resolve, reject) => {
      late = setTimeout(
        () => reject(new Error(`${this.spec.name} was not ready in time: see ${this.logFile}`)),
        READY_MS,
      );
      run.ended = this.#follow(run, () => resolve('ready'));
    });
    this.#run = run;
    try {
      const first = await Promise.race([ready, run.ended]);
      if (first !== 'ready') throw new Error(`${this.spec.name} ended: ${first}; see ${this.logFile}`);
    } finally {
      clearTimeout(late);
    }
    void run.ended.then((how) => {
      if (this.#wanted && run === this.#run) this.endedByItself(`${this.spec.name} ended by itself: ${how}`);
    });
  }

  async kill(): Promise<void> {
    await this.#end('KILL');
  }

  /** A lab that has gone took the process with it. */
  async stop(): Promise<void> {
    if (this.#run !== undefined) await this.#end('TERM').catch(() => undefined);
    this.#log.close();
  }

  /** The end that nobody here asked for, such as that of its machine. */
  forget(): void {
    this.#wanted = false;
  }

  async #end(signal: 'KILL' | 'TERM'): Promise<void> {
    this.#wanted = false;
    await this.lab.run(`kill -${signal} ${this.pid} || true`);
    const late = AbortSignal.timeout(STOP_MS);
    const tooLate = new Promise<never>((_, reject) =>
      late.addEventListener('abort', () => reject(new Error(`${this.spec.name} did not end`))),
    );
    await Promise.race([this.#run?.ended, tooLate]);
  }

  async #follow(run: Run, onReady: () => void): Promise<string> {
    const output = new PassThrough();
    createInterface({ input: output }).on('line', (line) => {
      const pid = /^pid (\d+)$/.exec(line)?.[1];
      if (pid !== undefined && run.pid === 0) run.pid = Number(pid);
      this.#log.write(line);
      if (this.spec.readyLine(line) !== undefined) onReady();
    });
    try {
      const { exitCode } = await this.lab.run([...ANNOUNCED, ...this.spec.argv], {
        cwd: this.spec.cwd,
        env: this.spec.env,
        onOutput: (bytes) => void output.write(bytes),
      });
      return `status ${exitCode}`;
    } catch (error) {
      return String(error);
    } finally {
      output.end();
    }
  }
}
