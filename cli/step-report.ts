import ora from 'ora';
import pc from 'picocolors';
import { seconds } from './durations.js';

export interface FinishedStep {
  step: string;
  detail: string;
  seconds: number;
}

/**
 * Tells what is under way: a spinner at a terminal, plain lines in a pipe, one JSON object
 * per line with `--json`. Each step ends as one line with its time.
 */
export class StepReport {
  readonly finished: FinishedStep[] = [];

  constructor(
    private readonly json: boolean,
    /** Standard error for commands whose output is a result. */
    private readonly out: NodeJS.WriteStream = process.stdout,
  ) {}

  /** Runs a step. `note` tells what it does now; `describe` makes the words beside its result. */
  async step<T>(
    title: string,
    work: (note: (text: string) => void) => Promise<T>,
    describe: (result: T) => string = () => '',
  ): Promise<T> {
    const started = performance.now();
    const spinner = this.json || !process.stderr.isTTY ? undefined : ora({ text: title, discardStdin: false }).start();
    let last = '';
    const note = (text: string) => {
      if (text === last) return;
      last = text;
      if (spinner !== undefined) spinner.text = `${title} ${pc.dim(shorten(text))}`;
      else if (!this.json) process.stderr.write(`  ${title}: ${text}\n`);
    };
    try {
      const result = await work(note);
      spinner?.stop();
      this.done(title, describe(result), performance.now() - started);
      return result;
    } catch (error) {
      spinner?.stop();
      if (!this.json) process.stderr.write(`${pc.red('✗')} ${title} ${pc.dim(seconds(performance.now() - started))}\n`);
      throw error;
    }
  }

  /** A step that somebody else timed. */
  done(step: string, detail: string, ms: number): void {
    const entry = { step, detail, seconds: Math.round(ms) / 1000 };
    this.finished.push(entry);
    if (this.json) this.object(entry);
    else
      this.out.write(
        `${pc.green('✓')} ${step.padEnd(TITLE_WIDTH)} ${seconds(ms).padStart(8)}  ${pc.dim(detail)}`.trimEnd() + '\n',
      );
  }

  /** A line that is no step: text for people, or the object for programs. */
  say(text: string, object: Record<string, unknown>): void {
    if (this.json) this.object(object);
    else this.out.write(`${text}\n`);
  }

  private object(value: object): void {
    this.out.write(`${JSON.stringify(value)}\n`);
  }
}

const TITLE_WIDTH = 26;

function shorten(text: string): string {
  const room = Math.max(20, (process.stderr.columns ?? 80) - TITLE_WIDTH);
  return text.length > room ? `${text.slice(0, room - 1)}…` : text;
}
