import { DomainError, ERRORS, type Failure } from '../../workflows/contract/errors.js';
import { canMove, OPERATIONS, type OperationKind, type SandboxState } from '../../workflows/contract/states.js';
import { lockOwned } from './claim.activities.js';
import type { ControlActivities, SettleInput } from './contract.js';
import type {
  ControlStore,
  ControlTemporal,
  ControlTransaction,
  OperationRecord,
  SandboxFailure,
  SandboxRecord,
} from './ports.js';

type SettleActivities = Pick<ControlActivities, 'recordGeneration' | 'settle'>;

export function createSettleActivities(
  store: ControlStore,
  temporal: Pick<ControlTemporal, 'wakeKeeper'>,
  now: () => Date,
): SettleActivities {
  return {
    recordGeneration: (input) => store.transaction((tx) => recordGeneration(tx, input)),
    settle: async (input) => {
      const { timed, state } = await store.transaction((tx) => settle(tx, input, now()));
      // Otherwise the keeper would sleep on until the deadline that it knew, an open run of a sandbox that no longer runs.
      // A Temporal that does not answer fails this attempt: the next one finds the row settled and tells the keeper.
      if (timed && state !== 'running') await temporal.wakeKeeper(input.sandboxId);
    },
  };
}

async function recordGeneration(
  tx: ControlTransaction,
  { sandboxId, epoch, snapshot }: Parameters<ControlActivities['recordGeneration']>[0],
): Promise<void> {
  const sandbox = await lockOwned(tx, sandboxId, epoch);
  const operation = await tx.findOpenOperation(sandboxId);
  if (!operation) {
    throw new DomainError('stale_operation', `the operation of sandbox ${sandboxId} with epoch ${epoch} is closed`);
  }
  if (sandbox.generation === snapshot.generation) return;
  await tx.updateSandbox(sandboxId, { generation: snapshot.generation });
  await tx.appendEvent({
    sandboxId,
    teamId: sandbox.teamId,
    type: 'snapshot.recorded',
    operationId: operation.id,
    data: { generation: snapshot.generation, memory_bytes: snapshot.memoryBytes, frozen_ms: snapshot.frozenMs },
  });
}

async function settle(
  tx: ControlTransaction,
  input: SettleInput,
  now: Date,
): Promise<{ timed: boolean; state: SandboxState }> {
  const { sandboxId, opId, epoch } = input;
  const sandbox = await lockOwned(tx, sandboxId, epoch);
  const timed = sandbox.timeoutSeconds > 0;
  const operation = await tx.findOperation(opId);
  if (!operation || operation.sandboxId !== sandboxId || operation.epoch !== epoch) {
    throw new DomainError('stale_operation', `operation ${opId} does not own sandbox ${sandboxId} with epoch ${epoch}`);
  }
  const target = targetOf(sandbox, operation, input.sandbox);
  if (operation.state !== 'running') {
    // The answer to the first attempt was lost.
    if (operation.state === input.operation && sandbox.state === target) return { timed, state: target };
    throw new DomainError('stale_operation', `operation ${opId} is closed already: ${operation.state}`);
  }
  if (sandbox.state !== target && !canMove(sandbox.state, target)) {
    throw new DomainError(
      'state_conflict',
      `operation ${opId} cannot take sandbox ${sandboxId} from ${sandbox.state} to ${target}`,
      { state: sandbox.state },
    );
  }
  await tx.updateSandbox(sandboxId, settledRow(sandbox, operation, { ...input, sandbox: target }, now));
  const failure = input.failure ?? null;
  await tx.closeOperation(opId, { state: input.operation, step: failure?.step ?? null, failure, finishedAt: now });
  if (target === 'stopped') await tx.deleteSecrets(sandboxId);
  await tx.appendEvent({
    sandboxId,
    teamId: sandbox.teamId,
    type: `${operation.kind}.${input.operation}`,
    operationId: opId,
    data: {
      state: target,
      ...(failure ? { failure } : {}),
      ...(input.note === undefined ? {} : { note: input.note }),
      ...(input.memoryLost ? { memory_lost: input.memoryLost } : {}),
    },
  });
  return { timed, state: target };
}

/** An operation that leaves the sandbox in the middle, because a destroy takes over, does not find a lost one again. */
function targetOf({ state }: SandboxRecord, { kind }: OperationRecord, wanted: SandboxState | null): SandboxState {
  if (wanted === null) return state;
  return state === 'missing' && wanted === OPERATIONS[kind].during ? state : wanted;
}

function settledRow(
  sandbox: SandboxRecord,
  operation: OperationRecord,
  { sandbox: state, operation: outcome, failure, memoryLost }: SettleInput & { sandbox: SandboxState },
  now: Date,
): Partial<SandboxRecord> {
  const runs = state === 'running';
  const begins = runs && beginsAnew(operation.kind, memoryLost !== undefined);
  return {
    state,
    // Cancelled means that somebody wanted it so: nothing is wrong with the sandbox.
    failure:
      failure && outcome === 'failed' ? asSandboxFailure(operation.id, failure, now) : keptFailure(sandbox, outcome),
    ...(runs ? { startedAt: begins ? now : (sandbox.startedAt ?? now), pausedAt: null } : {}),
    ...(state === 'paused' ? { pausedAt: operation.kind === 'pause' ? now : (sandbox.pausedAt ?? now) } : {}),
    ...(state === 'stopped' ? { stoppedAt: now, memoryLost: null } : {}),
    ...(memoryLost ? { memoryLost: { ...memoryLost, at: now.toISOString(), operationId: operation.id } } : {}),
    expiresAt: deadlineAfter(sandbox, state, begins, now),
    // The host does what it says, or will when it resumes the sandbox.
    ...(operation.network && outcome === 'succeeded'
      ? { network: operation.network, egress: operation.network.egress }
      : {}),
  };
}

/** A pause that failed, a change of its network and a recovery that found the guest alive leave it as it was: it runs on. */
function beginsAnew(kind: OperationKind, memoryLost: boolean): boolean {
  return kind === 'recover' ? memoryLost : kind !== 'pause' && kind !== 'network';
}

/** What went wrong before stays on the sandbox until an operation has succeeded. */
function keptFailure(sandbox: SandboxRecord, outcome: SettleInput['operation']): SandboxFailure | null {
  return outcome === 'succeeded' ? null : sandbox.failure;
}

/**
 * A sandbox that begins to run has its whole timeout. One that runs on because it could
 * not be paused, or was found alive, keeps the deadline it had: neither is activity, and
 * the keeper of the timeout has told when it tries again.
 */
function deadlineAfter(sandbox: SandboxRecord, state: string, begins: boolean, now: Date): Date | null {
  if (state !== 'running' || sandbox.timeoutSeconds === 0) return null;
  if (!begins && sandbox.expiresAt) return sandbox.expiresAt;
  return new Date(now.getTime() + sandbox.timeoutSeconds * 1000);
}

export function asSandboxFailure(operationId: string | null, failure: Failure, at: Date): SandboxFailure {
  const { step, code, message } = failure;
  return { operationId, step, code, message, suggestion: ERRORS[code].suggestion, at: at.toISOString() };
}
