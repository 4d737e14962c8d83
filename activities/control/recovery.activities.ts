import { DomainError } from '../../workflows/contract/errors.js';
import type { RecoverSandboxInput } from '../../workflows/contract/operations.js';
import { OPERATIONS, type SandboxState } from '../../workflows/contract/states.js';
import { claimedBefore, claimOf, openOperation, reserveAgain, supersede } from './claim.activities.js';
import type { ControlActivities, RecoverClaim, RunRef } from './contract.js';
import type { ControlStore, ControlTransaction, OperationRecord, RecoveryOrigin, SandboxRecord } from './ports.js';

type RecoveryActivities = Pick<ControlActivities, 'claimRecovery'>;

/** States that hold no memory on their host, so that what they had may be promised to others by now. */
const UNRESERVED: readonly SandboxState[] = ['paused', 'error'];

export function createRecoveryActivities(store: ControlStore, now: () => Date): RecoveryActivities {
  return { claimRecovery: (input) => store.transaction((tx) => claimRecovery(tx, input, now())) };
}

async function claimRecovery(
  tx: ControlTransaction,
  input: RecoverSandboxInput & RunRef,
  now: Date,
): Promise<RecoverClaim> {
  const { opId, sandboxId, teamId, runId } = input;
  const sandbox = await tx.lockSandbox(sandboxId);
  if (!sandbox || sandbox.teamId !== teamId) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
  const before = await claimedBefore(tx, opId, runId);
  if (before?.origin) return recoverClaimOf(sandbox, before.epoch, before.origin);
  refuseUnlessRecoverable(sandbox, input);
  const last = await tx.findNewestOperation(sandboxId);
  const origin = originOf(sandbox, last);
  if (UNRESERVED.includes(sandbox.state)) await reserveAgain(tx, sandbox);
  if (last?.state === 'running') await supersede(tx, last, { opId, kind: 'recover' }, now);
  const epoch = sandbox.epoch + 1;
  await tx.updateSandbox(sandboxId, { state: OPERATIONS.recover.during, epoch });
  await openOperation(
    tx,
    { ...input, kind: 'recover', hostId: sandbox.hostId, epoch, placement: null, origin },
    { from: sandbox.state, interrupted: origin.interrupted },
  );
  return recoverClaimOf(sandbox, epoch, origin);
}

function refuseUnlessRecoverable(sandbox: SandboxRecord, input: RecoverSandboxInput): void {
  const { id, state, epoch } = sandbox;
  const refuse = (why: string): never => {
    throw new DomainError('state_conflict', `cannot recover sandbox ${id}: ${why}`, { state, epoch });
  };
  if (!OPERATIONS.recover.from.includes(state)) refuse(`it is ${state}`);
  if (input.ifEpoch !== undefined && input.ifEpoch !== epoch) {
    refuse(`it has moved on from epoch ${input.ifEpoch} to ${epoch}`);
  }
  if (state === 'paused' && !input.discardMemory) refuse('it is paused, and its saved memory would be given up');
}

/**
 * What the recovery has to deal with: the operation that never closed, or the one that closed and left the sandbox
 * `missing` because its host was away. A recovery that ended so itself hands on what it had found: by what the interrupted
 * pause or resume had done it is decided what is true, however often the recovery of it is interrupted again.
 */
function originOf({ state }: SandboxRecord, last: OperationRecord | null): RecoveryOrigin {
  const unfinished = last?.state === 'running' || (state === 'missing' && last?.state !== 'succeeded');
  if (!last || !unfinished) return { was: state, interrupted: null, again: false };
  const { kind, epoch, origin } = last;
  if (kind !== 'recover' || !origin) return { was: state, interrupted: { kind, epoch }, again: false };
  return { was: origin.was, interrupted: origin.interrupted ?? { kind, epoch }, again: true };
}

function recoverClaimOf(sandbox: SandboxRecord, epoch: number, origin: RecoveryOrigin): RecoverClaim {
  const { was, interrupted, again } = origin;
  const claim = { ...claimOf(sandbox, epoch), was, interrupted, onMemoryLoss: sandbox.onMemoryLoss };
  return again ? { ...claim, again: true } : claim;
}
