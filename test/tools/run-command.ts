import { spawn } from 'node:child_process';
import { ROOT } from '../support/root.js';

export interface CommandOptions {
  /** 'capture' keeps the output for the caller to print; 'show' lets the person at the terminal follow it; 'both' does. */
  output: 'capture' | 'show' | 'both';
  cwd?: string;
  env?: Record<string, string>;
  /** Ends a command that hangs: a run that never finishes tells nobody what failed. */
  deadlineMs?: number;
}

export interface CommandResult {
  /** 0 is success; a command that could not start or was ended by a signal has none. */
  exitCode: number | undefined;
  stdout: string;
  /** Both streams in the order in which they came. Empty when shown. */
  output: string;
  seconds: number;
}

/** How long a command may take to end by itself after it was told to. */
const GRACE_MS = 10_000;

/** Runs one command from the root of the checkout, with the tools of node_modules/.bin on PATH. Never rejects. */
export async function runCommand(argv: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const started = performance.now();
  const [program = '', ...args] = argv;
  const child = spawn(program, args, {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, PATH: `${ROOT}node_modules/.bin:${process.env['PATH'] ?? ''}`, ...options.env },
    stdio: ['ignore', options.output === 'show' ? 'inherit' : 'pipe', options.output === 'show' ? 'inherit' : 'pipe'],
  });
  const chunks: Buffer[] = [];
  const stdout: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => void (stdout.push(chunk), chunks.push(chunk)));
  child.stderr?.on('data', (chunk: Buffer) => void chunks.push(chunk));
  if (options.output === 'both') {
    child.stdout?.on('data', (chunk: Buffer) => void process.stdout.write(chunk));
    child.stderr?.on('data', (chunk: Buffer) => void process.stderr.write(chunk));
  }
  const note = (text: string) => void chunks.push(Buffer.from(`${text}\n`));

  const timers: NodeJS.Timeout[] = [];
  if (options.deadlineMs !== undefined) {
    const { deadlineMs } = options;
    const end = () => {
      const text = `ended after ${deadlineMs / 1000} s, its deadline: ${argv.join(' ')}`;
      note(text);
      if (options.output !== 'capture') console.error(text);
      child.kill('SIGTERM');
      timers.push(setTimeout(() => child.kill('SIGKILL'), GRACE_MS));
    };
    timers.push(setTimeout(end, deadlineMs));
  }
  const exitCode = await new Promise<number | undefined>((resolve) => {
    child.once('error', (err) => {
      note(`cannot start ${program}: ${err.message}`);
      resolve(undefined);
    });
    child.once('close', (code) => resolve(code ?? undefined));
  });
  for (const timer of timers) clearTimeout(timer);
  return {
    exitCode,
    stdout: Buffer.concat(stdout).toString(),
    output: Buffer.concat(chunks).toString(),
    seconds: (performance.now() - started) / 1000,
  };
}
