import { type ActivityOptions, type StepLog, asActivity } from './as-activity.js';
import type { HostActivities, StepInput } from './contract.js';
import { type GuestConnections, noConnections } from './guest-connections.js';
import type { HostPorts } from './ports.js';
import { type Lane, StepGate } from './step-gate.js';

/** How long a guest may take to its first answer, a cold boot under software emulation included. */
const GUEST_READY_MS = 120_000;

export interface HostStepOptions {
  /** The data plane's connections into guests. */
  connections?: GuestConnections;
  /** Shared with what else works on sandboxes in this process, so that it does not cross a step. */
  gate?: StepGate;
  log?: StepLog;
  heartbeatMs?: number;
  guestReadyMs?: number;
}

export interface StepOf<I extends StepInput, O> {
  name: keyof HostActivities;
  lane: Lane;
  /** Tells apart what one operation may do twice, such as two set-up commands. */
  discriminator?: (input: I) => string;
  /** Activity names that this one undoes: refused in this epoch from now on. */
  undoes?: readonly (keyof HostActivities)[];
  /** It tells how things stand now: it fences like any other step, but a repeated one looks again. */
  looksAnew?: boolean;
  work(input: I, signal: AbortSignal): Promise<O>;
}

export type Step<I extends StepInput, O> = (input: I) => Promise<O>;

/** What every step has around it. */
export class StepRunner {
  readonly gate: StepGate;
  readonly connections: GuestConnections;
  readonly guestReadyMs: number;
  readonly log: StepLog;
  readonly #activity: ActivityOptions;

  constructor(
    readonly ports: HostPorts,
    options: HostStepOptions = {},
  ) {
    this.gate = options.gate ?? new StepGate();
    this.connections = options.connections ?? noConnections;
    this.guestReadyMs = options.guestReadyMs ?? GUEST_READY_MS;
    this.log = options.log ?? { info: () => {}, warn: () => {} };
    this.#activity = { log: this.log, heartbeatMs: options.heartbeatMs };
  }

  /**
   * A step as an activity: it waits for its turn, is recorded before it acts, tells
   * Temporal that it lives while it does, stops when it is cancelled or replaced, and
   * its result is recorded before it is given.
   */
  step<I extends StepInput, O>(definition: StepOf<I, O>): Step<I, O> {
    const { name, lane, undoes = [] } = definition;
    return async (input) => {
      const { sandboxId, epoch, opId } = input;
      const discriminator = definition.discriminator?.(input);
      const key = { sandboxId, epoch, opId, step: discriminator === undefined ? name : `${name}:${discriminator}` };
      const startedAt = performance.now();
      return asActivity(this.#activity, async (signal) => {
        const result = await this.gate.pass({ sandboxId, epoch, step: name, lane, undoes }, signal, async (both) => {
          const begun = await this.ports.journal.begin(key);
          if (begun.done) return begun.result as O;
          const made = await definition.work(input, both);
          // A step that was told to stop and finished all the same is done: its work is there.
          if (!definition.looksAnew) await this.ports.journal.done(key, made ?? null, input.last === true);
          return made;
        });
        if (input.last) this.gate.forget(sandboxId);
        this.log.info(
          { sandboxId, opId, epoch, step: key.step, ms: Math.round(performance.now() - startedAt) },
          'step done',
        );
        return result;
      });
    };
  }
}
