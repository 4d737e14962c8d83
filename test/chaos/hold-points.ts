import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { Context } from '@temporalio/activity';
import type { Arrival, Edge, StepProcess } from './boundary.js';

/** As often as the product's own steps: held ones must not look dead. */
const HEARTBEAT_MS = 2_000;

type Step = (...args: unknown[]) => Promise<unknown>;

/** Laid around a worker's activities: before and after each, the director is asked whether it may go on. */
export class HoldPoints {
  readonly #waiting = new Map<number, () => void>();
  #next = 0;
  #broken = false;

  private constructor(
    private readonly process: StepProcess,
    private readonly socket: Socket,
  ) {
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => this.#go(Number(line)));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#broken = true;
      for (const id of [...this.#waiting.keys()]) this.#go(id);
    });
    socket.unref();
  }

  /** The director's socket, or host and port of one on another machine. */
  static async open(process: StepProcess, director: string): Promise<HoldPoints> {
    const [, host, port] = /^([\w.]+):(\d+)$/.exec(director) ?? [];
    const socket = host === undefined ? connect(director) : connect(Number(port), host);
    await once(socket, 'connect');
    return new HoldPoints(process, socket);
  }

  around<T extends object>(activities: T): T {
    const wrapped = Object.entries(activities).map(([step, work]) => [step, this.#wrap(step, work as Step)]);
    return Object.fromEntries(wrapped) as T;
  }

  #wrap(step: string, work: Step): Step {
    return async (...args) => {
      const subject = subjectOf(args[0]);
      if (subject === undefined) return work(...args);
      await this.#pass(subject, step, 'before');
      const result = await work(...args);
      await this.#pass(subject, step, 'after');
      return result;
    };
  }

  async #pass(subject: string, step: string, edge: Edge): Promise<void> {
    if (this.#broken) return;
    const id = this.#next++;
    const arrival: Arrival & { id: number } = { id, subject, process: this.process, step, edge };
    const gone = new Promise<void>((resolve) => this.#waiting.set(id, resolve));
    this.socket.write(`${JSON.stringify(arrival)}\n`);
    const { info, heartbeat } = activityOf();
    const beat = info.isLocal ? undefined : setInterval(heartbeat, HEARTBEAT_MS);
    try {
      await gone;
    } finally {
      clearInterval(beat);
    }
  }

  #go(id: number): void {
    this.#waiting.get(id)?.();
    this.#waiting.delete(id);
  }
}

function activityOf(): { info: { isLocal: boolean }; heartbeat: () => void } {
  const context = Context.current();
  return { info: context.info, heartbeat: () => context.heartbeat() };
}

/** Steps that are about no sandbox and no build are let through. */
function subjectOf(input: unknown): string | undefined {
  if (typeof input !== 'object' || input === null) return undefined;
  const { sandboxId, buildId } = input as { sandboxId?: unknown; buildId?: unknown };
  return [sandboxId, buildId].find((id) => typeof id === 'string');
}
