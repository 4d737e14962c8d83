import { ApplicationFailure } from '@temporalio/common';
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import type {
  Claim,
  ControlActivities,
  Deadline,
  ExpiryOutcome,
  Placement,
  RecoverClaim,
} from '../../activities/control/contract.js';
import type { Reconciled } from '../../workflows/contract/findings.js';
import type { BuildArtefact, SnapshotInfo, VmBoot } from '../../activities/host/contract.js';
import { fakeReconciliation } from './fake-reconciliation.js';
import type { FakeOperation, FakeRow, Origin } from './fake-rows.js';
import { ERRORS, type ErrorCode, type Failure } from '../../workflows/contract/errors.js';
import { ttlWorkflowId } from '../../workflows/contract/ids.js';
import { networkPolicyOf } from '../../workflows/contract/network-policy.js';
import {
  REARM_SIGNAL,
  TTL_WORKFLOW,
  type SandboxTtlInput,
  type UpdateNetworkInput,
} from '../../workflows/contract/operations.js';
import { canMove, OPERATIONS, type SandboxState } from '../../workflows/contract/states.js';

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
  /** Where a sandbox is to be placed, whatever the order. */
  readonly placed = new Map<string, string>();
  /** Where new sandboxes get their memory from. */
  boot: VmBoot = { kind: 'cold' };
  /** Answers of `expire`, oldest first; done when empty. */
  readonly expiries: ExpiryOutcome[] = [];
  ttlRetryMs = 50;
  /** Calls that fail with a database error, by name, and how often. */
  readonly outages = new Map<keyof ControlActivities, number>();
  /** Hosts whose heartbeats do not come, and those that count as lost. */
  readonly silent = new Set<string>();
  readonly lost = new Set<string>();
  /** Orphans that were seen before: their grace period is over. */
  readonly seen = new Set<string>();
  /** What was recorded by reconciliations, oldest first. */
  readonly reconciled: Reconciled[] = [];

  constructor(
    readonly client: Client,
    readonly queue: string,
  ) {}

  row(id: string): FakeRow {
    return existing(this.sandboxes, id, 'sandbox');
  }

  /** What a host is told about something it holds. */
  verdict(sandboxId: string, hostId: string): 'live' | 'ended' | 'unknown' {
    const row = this.sandboxes.get(sandboxId);
    if (!row) return 'unknown';
    return row.state === 'stopped' || row.hostId !== hostId ? 'ended' : 'live';
  }

  readonly activities: ControlActivities = {
    claimAndPlace: async (input) => {
      this.outage('claimAndPlace');
      const hostId = this.placed.get(input.sandboxId) ?? this.choose([]);
      const known = this.operations.get(input.opId);
      if (known && known.runId !== input.runId)
        throw refuse('stale_operation', `operation ${input.opId} is another run's`);
      const { sandboxId, runId } = input;
      this.operations.set(input.opId, { kind: 'create', sandboxId, runId, epoch: 1, state: 'running' });
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
    claimNetwork: async (input) => {
      const claim = this.claim({ ...input, kind: 'network' });
      return { ...claim, was: this.row(input.sandboxId).state === 'paused' ? 'paused' : 'running' };
    },
    claimRecovery: async (input) => this.claimRecovery(input),
    recordGeneration: async ({ sandboxId, epoch, snapshot }) => {
      this.outage('recordGeneration');
      this.record(sandboxId, epoch, snapshot);
    },
    settle: async ({ sandboxId, opId, epoch, operation, sandbox, failure, memoryLost }) => {
      this.outage('settle');
      const row = this.row(sandboxId);
      const op = existing(this.operations, opId, 'operation');
      if (row.epoch !== epoch || op.epoch !== epoch) throw refuse('stale_operation', `epoch ${epoch} is closed`);
      if (op.state === operation) return;
      if (op.state !== 'running') throw refuse('stale_operation', `operation ${opId} is closed`);
      if (sandbox !== null) this.move(row, sandbox);
      op.state = operation;
      if (memoryLost) row.memoryLost = memoryLost;
      if (operation === 'succeeded' && op.network) row.spec = { ...row.spec, network: op.network };
      row.expiresAt =
        row.state === 'running' && row.spec.timeoutSeconds > 0 ? Date.now() + row.spec.timeoutSeconds * 1000 : null;
      if (failure) {
        op.failure = failure;
        row.failure = failure;
      }
      if (row.state !== 'running' && row.spec.timeoutSeconds > 0) await this.nudgeKeeper(sandboxId);
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
    ...fakeReconciliation(this),
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
      return { hostId: this.placed.get(buildId) ?? this.choose([]), epoch: 1 };
    },
    appendBuildLog: async ({ buildId, text }) => {
      existing(this.builds, buildId, 'build').log += text;
    },
    finishBuild: async ({ buildId, ...end }) => {
      Object.assign(existing(this.builds, buildId, 'build'), end);
    },
  };

  private claim(
    input: Parameters<ControlActivities['claim']>[0] | (UpdateNetworkInput & { runId: string; kind: 'network' }),
  ): Claim {
    this.outage('claim');
    const row = this.row(input.sandboxId);
    const known = this.operations.get(input.opId);
    if (known && known.runId !== input.runId)
      throw refuse('stale_operation', `operation ${input.opId} is another run's`);
    if (!known) {
      const { from } = OPERATIONS[input.kind];
      if (!from.includes(row.state)) throw refuse('state_conflict', `sandbox ${input.sandboxId} is ${row.state}`);
      this.begin(row, input);
      if (input.kind === 'network') existing(this.operations, input.opId, 'operation').network = input.network;
    }
    return this.claimOf(row);
  }

  private claimRecovery(input: Parameters<ControlActivities['claimRecovery']>[0]): RecoverClaim {
    this.outage('claimRecovery');
    const row = this.row(input.sandboxId);
    const known = this.operations.get(input.opId);
    if (known && known.runId !== input.runId)
      throw refuse('stale_operation', `operation ${input.opId} is another run's`);
    if (!known) {
      const refused = !OPERATIONS.recover.from.includes(row.state) || (row.state === 'paused' && !input.discardMemory);
      const moved = input.ifEpoch !== undefined && input.ifEpoch !== row.epoch;
      if (refused || moved) throw refuse('state_conflict', `sandbox ${input.sandboxId} is ${row.state}`);
    }
    const origin = known?.origin ?? this.originOf(row, input);
    if (!known) this.begin(row, { ...input, kind: 'recover', origin });
    return { ...this.claimOf(row), ...origin, onMemoryLoss: row.spec.onMemoryLoss };
  }

  /** The operation that left a sandbox as it is: one that is still open, or whose undo could not be finished. */
  private originOf(row: FakeRow, { sandboxId }: { sandboxId: string }): Origin {
    const newest = [...this.operations.values()].find((op) => op.sandboxId === sandboxId && op.epoch === row.epoch);
    const leftIt = newest && (newest.state === 'running' || (row.state === 'missing' && newest.state !== 'succeeded'));
    if (!leftIt) return { was: row.state, interrupted: null };
    if (newest.origin) return { ...newest.origin, again: true };
    return { was: row.state, interrupted: { kind: newest.kind, epoch: newest.epoch } };
  }

  /** An operation that is still open was ended from outside: at most one run is open on a sandbox. */
  private begin(
    row: FakeRow,
    {
      opId,
      kind,
      sandboxId,
      runId,
      origin,
    }: { opId: string } & Pick<FakeOperation, 'kind' | 'sandboxId' | 'runId' | 'origin'>,
  ): void {
    for (const op of this.operations.values()) {
      if (op.sandboxId === sandboxId && op.state === 'running') op.state = 'cancelled';
    }
    row.epoch += 1;
    this.move(row, OPERATIONS[kind].during ?? row.state);
    const { epoch } = row;
    this.operations.set(opId, { kind, sandboxId, runId, epoch, state: 'running', ...(origin ? { origin } : {}) });
  }

  private claimOf(row: FakeRow): Claim {
    const { epoch, hostId, generation, spec } = row;
    const { vcpus, memoryMb, egress } = spec;
    return { epoch, hostId, generation, vcpus, memoryMb, egress, network: networkPolicyOf(spec) };
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

  outage(name: keyof ControlActivities): void {
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
