import { activityInfo } from '@temporalio/activity';
import { DomainError } from '../../workflows/contract/errors.js';
import type { Finding, Reconciled } from '../../workflows/contract/findings.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import { finishBuild } from './build.activities.js';
import { supersede } from './claim.activities.js';
import type { Shown } from './compare.js';
import { eachOf } from './concurrency.js';
import type { ControlActivities } from './contract.js';
import { derivedId } from './derived-id.js';
import { heartbeating } from './heartbeating.js';
import { loseHost } from './host-lease.activities.js';
import type { ControlStore, ControlTemporal, ControlTransaction, SandboxRecord } from './ports.js';
import { asSandboxFailure } from './settle.activities.js';

type RepairActivities = Pick<ControlActivities, 'repair'>;
type Repairing = Pick<ControlTemporal, 'armKeeper' | 'ensureWatch' | 'startRepair'>;
/** What became of a finding, without the finding. */
type Outcome = Pick<Reconciled, 'outcome' | 'after'>;

/** Operations that are started at once: each waits until a control worker has taken it. */
const REPAIRS = 8;

export function createRepairActivities(store: ControlStore, temporal: Repairing, now: () => Date): RepairActivities {
  const repairs = new Repairs(store, temporal, now);
  return {
    repair: ({ findings, reason }) => heartbeating(activityInfo().activityId, () => repairs.all(findings, reason)),
  };
}

class Repairs {
  constructor(
    private readonly store: ControlStore,
    private readonly temporal: Repairing,
    private readonly now: () => Date,
  ) {}

  async all(findings: readonly Finding[], reason: string): Promise<Reconciled[]> {
    const behind = await eachOf(
      findings.filter(({ kind }) => kind === 'epoch_behind'),
      REPAIRS,
      (finding) => this.one(finding, reason),
    );
    // What else was found of such a sandbox was found of an epoch that it has no more.
    const raised = new Map(behind.map(({ sandboxId, after }) => [sandboxId, after['epoch']]));
    const others = findings.filter(({ kind }) => kind !== 'epoch_behind');
    const rest = await eachOf(others, REPAIRS, async (finding) => {
      const epoch = raised.get(finding.sandboxId);
      const { outcome, after } = await this.one(
        typeof epoch === 'number' && finding.sandboxId !== null ? { ...finding, epoch } : finding,
        reason,
      );
      return { ...finding, outcome, after };
    });
    return [...behind, ...rest];
  }

  private async one(finding: Finding, reason: string): Promise<Reconciled> {
    try {
      return { ...finding, ...(await this.mend(finding, reason)) };
    } catch (error) {
      if (!(error instanceof DomainError)) throw error;
      return { ...finding, ...refused(error) };
    }
  }

  private async mend(finding: Finding, reason: string): Promise<Outcome> {
    switch (finding.kind) {
      case 'run_lost':
      case 'vm_lost':
      case 'vm_frozen':
      case 'unresolved':
        return this.operate(finding, reason);
      case 'found':
        return this.bringBack(finding);
      case 'snapshot_lost':
        return this.tellSnapshotLost(finding);
      case 'epoch_behind':
        return this.raiseEpoch(finding);
      case 'build_lost':
        return this.endBuild(finding);
      case 'keeper_missing':
        return this.keep(finding);
      case 'host_silent':
        return this.lose(finding);
      case 'watch_missing':
        await this.temporal.ensureWatch(finding.hostId ?? '');
        return repaired({ watched: true });
      case 'orphan':
        return { outcome: 'waiting', after: { why: 'hosts remove orphans' } };
      case 'unknown':
      case 'vm_unexpected':
      case 'host_unasked':
        return { outcome: 'kept', after: {} };
    }
  }

  /** Not waited for: the next reconciliation sees how it ended, and a sandbox that is being worked on is no finding. */
  private async operate(finding: Finding, reason: string): Promise<Outcome> {
    const opId = repairOpId(finding);
    // An attempt of this activity before this one.
    const earlier = await this.store.findOperation(opId);
    if (earlier) return repaired({ operation: opId, kind: earlier.kind });
    const sandbox = await this.known(finding);
    if (sandbox.epoch !== finding.epoch) throw movedOn(finding);
    if (sandbox.state === 'paused') return this.closeAbandoned(finding);
    const kind = sandbox.state === 'stopping' ? 'destroy' : 'recover';
    const started = await this.temporal.startRepair({
      kind,
      opId,
      sandbox,
      ifEpoch: sandbox.epoch,
      reason: kind === 'destroy' ? 'reconciler' : reason,
    });
    return repaired({ operation: started.opId, kind });
  }

  /** A change of its network policy, of which only the row knew: nothing on its host is in doubt, and its memory is safe. */
  private async closeAbandoned(finding: Finding): Promise<Outcome> {
    const closed = await this.store.transaction(async (tx) => {
      const sandbox = await tx.lockSandbox(finding.sandboxId ?? '');
      if (sandbox?.epoch !== finding.epoch || sandbox.state !== 'paused') throw movedOn(finding);
      const { id, epoch } = sandbox;
      const open = await tx.findOpenOperation(id);
      if (open) await supersede(tx, open, { kind: 'the reconciliation', opId: `at epoch ${epoch}` }, this.now());
      return open;
    });
    return repaired({ state: 'paused', closed: closed?.id ?? null });
  }

  /** The host is back and the guest never noticed. */
  private async bringBack(finding: Finding): Promise<Outcome> {
    const sandbox = await this.store.transaction(async (tx) => {
      const before = await this.unmoved(tx, finding, 'missing', 'running');
      if (before.state === 'running') return before;
      const { id, teamId, timeoutSeconds, expiresAt } = before;
      const deadline = expiresAt ?? (timeoutSeconds === 0 ? null : this.deadline(timeoutSeconds));
      await tx.updateSandbox(id, { state: 'running', expiresAt: deadline });
      const data = { host_id: before.hostId, state: 'running' };
      await tx.appendEvent({ sandboxId: id, teamId, type: 'host.returned', operationId: null, data });
      return { ...before, expiresAt: deadline };
    });
    if (sandbox.expiresAt) await this.temporal.armKeeper(sandbox);
    return repaired({ state: 'running' });
  }

  private async tellSnapshotLost(finding: Finding): Promise<Outcome> {
    await this.store.transaction(async (tx) => {
      const { id, hostId, generation, state } = await this.unmoved(tx, finding, 'paused', 'error');
      if (state === 'error') return;
      const message = `the saved memory of generation ${generation} is not on host ${hostId}; its disk may be`;
      const failure = { step: 'reconcile', code: 'memory_lost', message } as const;
      await tx.updateSandbox(id, { state: 'error', failure: asSandboxFailure(null, failure, this.now()) });
    });
    return repaired({ state: 'error', code: 'memory_lost' });
  }

  /** The database is older than the host: the row becomes what the host shows, where that tells. */
  private async raiseEpoch(finding: Finding): Promise<Outcome> {
    const epoch = Number(finding.before['host_epoch']);
    const shown = (finding.before['shown'] ?? null) as Shown | null;
    const sandbox = await this.store.transaction(async (tx) => {
      const before = await tx.lockSandbox(finding.sandboxId ?? '');
      // An attempt before this one may have raised it.
      if (before?.epoch === epoch) return before;
      if (before?.epoch !== finding.epoch) throw movedOn(finding);
      const changes = { epoch, ...(shown ? this.asShown(before, shown) : {}) };
      const open = shown ? await tx.findOpenOperation(before.id) : null;
      if (open) await supersede(tx, open, { kind: 'the reconciliation', opId: `at epoch ${epoch}` }, this.now());
      await tx.updateSandbox(before.id, changes);
      return { ...before, ...changes };
    });
    if (sandbox.state === 'running' && sandbox.expiresAt) await this.temporal.armKeeper(sandbox);
    return repaired({ epoch, ...shown });
  }

  private asShown(before: SandboxRecord, { state, generation }: Shown): Partial<SandboxRecord> {
    if (state === 'paused') {
      return { state, generation, pausedAt: before.pausedAt ?? this.now(), expiresAt: null, failure: null };
    }
    const { timeoutSeconds, expiresAt, startedAt } = before;
    const deadline = expiresAt ?? (timeoutSeconds === 0 ? null : this.deadline(timeoutSeconds));
    return { state, startedAt: startedAt ?? this.now(), pausedAt: null, expiresAt: deadline, failure: null };
  }

  /** As if its run had said so: its room on the host is free, and the template can be built again. */
  private async endBuild({ sandboxId }: Finding): Promise<Outcome> {
    const message = 'its run ended without closing it: it was terminated in Temporal, or lost there';
    const failure = { step: 'workflow', code: 'stale_operation', message } as const;
    const end = { buildId: sandboxId ?? '', state: 'failed', failure } as const;
    await this.store.transaction((tx) => finishBuild(tx, end, this.now()));
    return repaired({ state: end.state });
  }

  private async keep(finding: Finding): Promise<Outcome> {
    const sandbox = await this.known(finding);
    if (sandbox.state !== 'running' || sandbox.expiresAt === null) throw movedOn(finding);
    await this.temporal.armKeeper(sandbox);
    return repaired({ kept_until: sandbox.expiresAt.toISOString() });
  }

  private lose({ hostId }: Finding): Promise<Outcome> {
    return this.store.transaction(async (tx) => {
      const host = await tx.lockHost(hostId ?? '');
      if (!host || host.leftMs > 0) return { outcome: 'kept', after: { why: 'it answers again' } };
      return repaired({ missing: await loseHost(tx, host) });
    });
  }

  /** The sandbox as it was found, or as an attempt before this one has mended it; a refusal when it is neither. */
  private async unmoved(
    tx: ControlTransaction,
    finding: Finding,
    ...states: readonly SandboxState[]
  ): Promise<SandboxRecord> {
    const sandbox = await tx.lockSandbox(finding.sandboxId ?? '');
    const open = await tx.findOpenOperation(finding.sandboxId ?? '');
    if (!sandbox || open || sandbox.epoch !== finding.epoch || !states.includes(sandbox.state)) throw movedOn(finding);
    return sandbox;
  }

  private async known({ sandboxId }: Finding): Promise<SandboxRecord> {
    const sandbox = await this.store.findSandbox(sandboxId ?? '');
    if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
    return sandbox;
  }

  private deadline(timeoutSeconds: number): Date {
    return new Date(this.now().getTime() + timeoutSeconds * 1000);
  }
}

function repaired(after: Record<string, unknown>): Outcome {
  return { outcome: 'repaired', after };
}

function movedOn({ sandboxId, epoch }: Finding): DomainError {
  return new DomainError('state_conflict', `sandbox ${sandboxId} is not what it was at epoch ${epoch} any more`);
}

/** Somebody else is at work on it, it has moved on, or it could not be done. */
function refused({ code, message }: DomainError): Outcome {
  const after = { code, why: message };
  if (code === 'operation_in_progress') return { outcome: 'waiting', after };
  return { outcome: code === 'state_conflict' || code === 'stale_operation' ? 'kept' : 'failed', after };
}

/** The same for the same finding of the same epoch, so that a repeat joins what was started. */
function repairOpId({ kind, sandboxId, epoch }: Finding): string {
  return derivedId('repair', kind, sandboxId, epoch);
}
