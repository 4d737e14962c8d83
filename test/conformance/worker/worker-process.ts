import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { deferred } from '../../support/deferred.js';
import { ROOT } from '../../support/root.js';

/** A host worker as the process it is. */
export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #awaited: { text: string; seen: () => void }[] = [];
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;

  constructor(env: Record<string, string>) {
    const argv = ['--import', './test/tools/typescript.mjs', '--no-warnings', 'host-worker/main.ts'];
    this.#child = spawn(process.execPath, argv, {
      cwd: ROOT,
      env: { PATH: process.env['PATH'] ?? '', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = deferred<number | NodeJS.Signals | null>();
    this.#child.once('close', (code, signal) => ended.resolve(code ?? signal));
    this.ended = ended.promise;
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => this.#read(line));
    }
  }

  get output(): string {
    return this.#lines.join('\n');
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Resolves when it has printed this; rejects when it ends without. */
  async says(text: string): Promise<void> {
    if (this.output.includes(text)) return;
    const seen = new Promise<void>((resolve) => this.#awaited.push({ text, seen: resolve }));
    const gone = this.ended.then((how) => {
      if (!this.output.includes(text)) throw new Error(`the worker ended (${how}) without "${text}":\n${this.output}`);
    });
    await Promise.race([seen, gone]);
  }

  signal(signal: 'SIGTERM' | 'SIGKILL'): void {
    this.#child.kill(signal);
  }

  #read(line: string): void {
    this.#lines.push(line);
    for (const { text, seen } of this.#awaited) if (line.includes(text)) seen();
  }
}
