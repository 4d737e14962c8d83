import { ApplicationFailure } from '@temporalio/common';
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import type {
  Claim,
  ControlActivities,
  Deadline,
  ExpiryOutcome,
  Placement,
} from '../../activities/control/contract.js';
import type { BuildArtefact, SnapshotInfo, VmBoot } from '../../activities/host/contract.js';
import { ERRORS, type ErrorCode, type Failure } from '../../workflows/contract/errors.js';
import { ttlWorkflowId } from '../../workflows/contract/ids.js';
import {
  REARM_SIGNAL,
  TTL_WORKFLOW,
  type SandboxSpec,
  type SandboxTtlInput,
} from '../../workflows/contract/operations.js';
import {
  canMove,
  OPERATIONS,
  type OperationKind,
  type OperationState,
  type SandboxState,
} from '../../workflows/contract/states.js';

export interface FakeRow {
  state: SandboxState;
  epoch: number;
  hostId: string;
  spec: SandboxSpec;
  generation: number;
  expiresAt: number | null;
  failure?: Failure;
}

export interface FakeOperation {
  kind: OperationKind;
  runId: string;
  epoch: number;
  state: OperationState;
  failure?: Failure;
}

/**
 * The database of a platform in memory, with the rules of the real one: one table of
 * transitions, epochs by compare-and-set, closed operations refuse everything.
 */
export class FakeControl {
  readonly sandboxes = new Map<string, FakeRow>();
  readonly operations = new Map<string, FakeOperation>();
  readonly builds = new Map<string, { state: string; log: string; artefact?: BuildArtefact; failure?: Failure }>();
  readonly expiryFailures: string[] = [];
  /** Hosts in the order in which they are chosen. */
  readonly hosts: string[] = [];
  /** Where new sandboxes get their memory from. */
  boot: VmBoot = { kind: 'cold' };
  /** Answers of `expire`, oldest first; done when empty. */
  readonly expiries: ExpiryOutcome[] = [];
  ttlRetryMs = 50;
  /** Calls that fail with a database error, by name, and how often. */
  readonly outages = new Map<keyof ControlActivities, number>();

  constructor(
    private readonly client: Client,
    private readonly queue: string,
  ) {}

  row(id: string): FakeRow {
    return existing(this.sandboxes, id, 'sandbox');
  }

  readonly activities: ControlActivities = {
    claimAndPlace: async (input) => {
      this.outage('claimAndPlace');
      const hostId = this.choose([]);
      const known = this.operations.get(input.opId);
      if (known && known.runId !== input.runId)
        throw refuse('stale_operation', `operation ${input.opId} is another run's`);
      this.operations.set(input.opId, { kind: 'create', runId: input.runId, epoch: 1, state: 'running' });
      this.sandboxes.set(input.sandboxId, {
        state: 'starting',
        epoch: 1,
        hostId,
        spec: input.spec,
        generation: 0,
        expiresAt: null,
      });
      return this.placement(input.sandboxId);
    },
    placeElsewhere: async ({ sandboxId, notHosts }) => {
      this.row(sandboxId).hostId = this.choose(notHosts);
      return this.placement(sandboxId);
    },
    claim: async (input) => this.claim(input),
    recordGeneration: async ({ sandboxId, epoch, snapshot }) => {
      this.outage('recordGeneration');
      this.record(sandboxId, epoch, snapshot);
    },
    settle: async ({ sandboxId, opId, epoch, operation, sandbox, failure }) => {
      this.outage('settle');
      const row = this.row(sandboxId);
      const op = existing(this.operations, opId, 'operation');
      if (row.epoch !== epoch || op.epoch !== epoch) throw refuse('stale_operation', `epoch ${epoch} is closed`);
      if (op.state === operation) return;
      if (op.state !== 'running') throw refuse('stale_operation', `operation ${opId} is closed`);
      this.move(row, sandbox);
      op.state = operation;
      row.expiresAt =
        sandbox === 'running' && row.spec.timeoutSeconds > 0 ? Date.now() + row.spec.timeoutSeconds * 1000 : null;
      if (failure) {
        op.failure = failure;
        row.failure = failure;
      }
      if (sandbox !== 'running' && row.spec.timeoutSeconds > 0) await this.nudgeKeeper(sandboxId);
    },
    armTtl: async ({ sandboxId }) => {
      const row = this.row(sandboxId);
      if (row.expiresAt === null) return;
      const args: [SandboxTtlInput] = [{ sandboxId, retryInitialMs: this.ttlRetryMs }];
      await this.client.workflow.signalWithStart(TTL_WORKFLOW, {
        workflowId: ttlWorkflowId(sandboxId),
        taskQueue: this.queue,
        signal: REARM_SIGNAL,
        args,
      });
    },
    readDeadline: async ({ sandboxId }) => this.deadline(sandboxId),
    expire: async ({ sandboxId, onTimeout }) => {
      const outcome = this.expiries.shift() ?? { done: true, message: '' };
      if (outcome.done) this.row(sandboxId).state = onTimeout === 'pause' ? 'paused' : 'stopped';
      return outcome;
    },
    noteExpiryFailure: async ({ message }) => {
      this.expiryFailures.push(message);
    },
    beginBuild: async ({ buildId }) => {
      this.builds.set(buildId, { state: 'running', log: '' });
      return { hostId: this.choose([]), epoch: 1 };
    },
    appendBuildLog: async ({ buildId, text }) => {
      existing(this.builds, buildId, 'build').log += text;
    },
    finishBuild: async ({ buildId, ...end }) => {
      Object.assign(existing(this.builds, buildId, 'build'), end);
    },
  };

  private claim(input: Parameters<ControlActivities['claim']>[0]): Claim {
    this.outage('claim');
    const row = this.row(input.sandboxId);
    const known = this.operations.get(input.opId);
    if (known && known.runId !== input.runId)
      throw refuse('stale_operation', `operation ${input.opId} is another run's`);
    if (!known) {
      const { from, during } = OPERATIONS[input.kind];
      if (!from.includes(row.state)) throw refuse('state_conflict', `sandbox ${input.sandboxId} is ${row.state}`);
      row.epoch += 1;
      this.move(row, during);
      this.operations.set(input.opId, { kind: input.kind, runId: input.runId, epoch: row.epoch, state: 'running' });
    }
    const { epoch, hostId, generation, spec } = row;
    return { epoch, hostId, generation, vcpus: spec.vcpus, memoryMb: spec.memoryMb, egress: spec.egress };
  }

  private async nudgeKeeper(sandboxId: string): Promise<void> {
    try {
      await this.client.workflow.getHandle(ttlWorkflowId(sandboxId)).signal(REARM_SIGNAL);
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  }

  private record(sandboxId: string, epoch: number, snapshot: SnapshotInfo): void {
    const row = this.row(sandboxId);
    if (row.epoch !== epoch) throw refuse('stale_operation', `epoch ${epoch} is not ${row.epoch}`);
    row.generation = snapshot.generation;
  }

  private move(row: FakeRow, to: SandboxState): void {
    if (row.state !== to && !canMove(row.state, to)) {
      throw refuse('internal_error', `illegal transition ${row.state} -> ${to}`, true);
    }
    row.state = to;
  }

  private deadline(sandboxId: string): Deadline {
    const row = this.sandboxes.get(sandboxId);
    if (!row) return { state: null, expiresAt: null, onTimeout: 'pause' };
    return { state: row.state, expiresAt: row.expiresAt, onTimeout: row.spec.onTimeout };
  }

  private placement(sandboxId: string): Placement {
    const { epoch, hostId } = this.row(sandboxId);
    const disk = this.boot.kind === 'build' ? this.boot : ({ kind: 'image', image: 'minimal' } as const);
    return { epoch, hostId, disk, boot: this.boot };
  }

  private choose(notHosts: string[]): string {
    const hostId = this.hosts.find((host) => !notHosts.includes(host));
    if (hostId === undefined) throw refuse('no_hosts_available', 'no host has room for the sandbox');
    return hostId;
  }

  private outage(name: keyof ControlActivities): void {
    const left = this.outages.get(name) ?? 0;
    if (left === 0) return;
    this.outages.set(name, left - 1);
    throw new Error(`connection refused (${name})`);
  }
}

function refuse(type: ErrorCode, message: string, nonRetryable = !ERRORS[type].retryable): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable });
}

function existing<T>(all: Map<string, T>, id: string, what: string): T {
  const found = all.get(id);
  if (found === undefined) throw refuse('not_found', `no ${what} ${id}`);
  return found;
}
