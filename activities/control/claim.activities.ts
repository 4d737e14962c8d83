import { DomainError } from '../../workflows/contract/errors.js';
import { networkPolicyOf, type NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { CreateSandboxInput, UpdateNetworkInput } from '../../workflows/contract/operations.js';
import { mayBegin, OPERATIONS, verbOf } from '../../workflows/contract/states.js';
import type { Claim, ControlActivities, NetworkClaim, Placement, RunRef } from './contract.js';
import { choosePlacement, hasRoom, type ChosenPlacement } from './placement.js';
import type { ControlStore, ControlTransaction, OperationRecord, RecoveryOrigin, SandboxRecord } from './ports.js';

type ClaimActivities = Pick<ControlActivities, 'claimAndPlace' | 'placeElsewhere' | 'claim' | 'claimNetwork'>;

/**
 * The first step of every operation: the run takes the sandbox. The row's lock makes
 * claims of one sandbox wait for one another, and the epoch that a claim gets makes
 * everything that an earlier run may still send worthless.
 */
export function createClaimActivities(store: ControlStore, now: () => Date): ClaimActivities {
  return {
    claimAndPlace: (input) => store.transaction((tx) => claimAndPlace(tx, input)),
    placeElsewhere: (input) => store.transaction((tx) => placeElsewhere(tx, input)),
    claim: (input) => store.transaction((tx) => claim(tx, input, now())),
    claimNetwork: (input) => store.transaction((tx) => claimNetwork(tx, input, now())),
  };
}

/** The operation as this run claimed it before; null when nobody did. */
export async function claimedBefore(
  tx: ControlTransaction,
  opId: string,
  runId: string,
): Promise<OperationRecord | null> {
  const operation = await tx.findOperation(opId);
  if (!operation) return null;
  if (operation.runId === runId && operation.state === 'running') return operation;
  const why = operation.runId === runId ? `is ${operation.state}` : `belongs to run ${operation.runId}`;
  throw new DomainError('stale_operation', `operation ${opId} ${why}: run ${runId} may not act for it`, {
    state: operation.state,
    run_id: operation.runId,
  });
}

async function claimAndPlace(tx: ControlTransaction, input: CreateSandboxInput & RunRef): Promise<Placement> {
  const { opId, sandboxId, teamId, runId, spec } = input;
  // Also makes two runs that would create the same sandbox wait for one another: there is no row to lock yet.
  await tx.lockPlacement();
  const before = await claimedBefore(tx, opId, runId);
  const existing = await tx.lockSandbox(sandboxId);
  if (before?.placement && existing?.hostId) {
    return { epoch: before.epoch, hostId: existing.hostId, ...before.placement };
  }
  if (existing) {
    throw new DomainError('state_conflict', `sandbox ${sandboxId} exists already and is ${existing.state}`, {
      state: existing.state,
    });
  }
  const placement = await place(tx, { ...spec, teamId, notHosts: [] });
  const epoch = 1;
  const network = networkPolicyOf(spec);
  await tx.insertSandbox({
    ...spec,
    network,
    egress: network.egress,
    id: sandboxId,
    teamId,
    hostId: placement.hostId,
    state: OPERATIONS.create.during,
    epoch,
    expiresAt: null,
    generation: 0,
    memoryLost: null,
    failure: null,
    startedAt: null,
    pausedAt: null,
    stoppedAt: null,
  });
  const { hostId, disk, boot, coldBecause } = placement;
  const operation = { ...input, kind: 'create', hostId, epoch, placement: { disk, boot }, network: null } as const;
  await openOperation(tx, operation, { host_id: hostId, boot, ...toldCold(coldBecause) });
  return { epoch, hostId, disk, boot };
}

/** For the events: what a sandbox that boots cold might have been restored from. */
function toldCold(why: string | undefined): { cold_because?: string } {
  return why === undefined ? {} : { cold_because: why };
}

async function place(
  tx: ControlTransaction,
  request: { templateId: string; teamId: string; vcpus: number; memoryMb: number; cold: boolean; notHosts: string[] },
): Promise<ChosenPlacement> {
  const template = await tx.findTemplate(request.templateId);
  if (!template || !(template.platform || template.teamId === request.teamId)) {
    throw new DomainError('not_found', `there is no template ${request.templateId}`);
  }
  const [hosts, builds] = [await tx.onlineHosts(), await tx.buildsOf(template.id)];
  return choosePlacement({ ...request, image: template.image }, hosts, builds);
}

async function placeElsewhere(
  tx: ControlTransaction,
  input: { sandboxId: string; epoch: number; notHosts: string[] },
): Promise<Placement> {
  const { sandboxId, epoch, notHosts } = input;
  const sandbox = await lockOwned(tx, sandboxId, epoch);
  const operation = await tx.findOpenOperation(sandboxId);
  if (!operation || operation.kind !== 'create') {
    throw new DomainError('stale_operation', `the create of sandbox ${sandboxId} with epoch ${epoch} is closed`);
  }
  // An attempt that was moved but whose answer was lost.
  if (sandbox.hostId && operation.placement && !notHosts.includes(sandbox.hostId)) {
    return { epoch, hostId: sandbox.hostId, ...operation.placement };
  }
  await tx.lockPlacement();
  const { hostId, disk, boot, coldBecause } = await place(tx, { ...sandbox, notHosts });
  await tx.updateSandbox(sandboxId, { hostId });
  await tx.updateOperation(operation.id, { hostId, placement: { disk, boot } });
  await tx.appendEvent({
    sandboxId,
    teamId: sandbox.teamId,
    type: 'placement.changed',
    operationId: operation.id,
    data: { host_id: hostId, away: notHosts, boot, ...toldCold(coldBecause) },
  });
  return { epoch, hostId, disk, boot };
}

type ClaimInput = Parameters<ControlActivities['claim']>[0] | (UpdateNetworkInput & RunRef & { kind: 'network' });

async function claim(tx: ControlTransaction, input: ClaimInput, now: Date): Promise<Claim> {
  const { sandbox, epoch } = await take(tx, input, now);
  return claimOf(sandbox, epoch);
}

async function claimNetwork(
  tx: ControlTransaction,
  input: UpdateNetworkInput & RunRef,
  now: Date,
): Promise<NetworkClaim> {
  const { sandbox, epoch } = await take(tx, { ...input, kind: 'network' }, now);
  // One whose host was lost since an earlier attempt of this ran.
  return { ...claimOf(sandbox, epoch), was: sandbox.state === 'paused' ? 'paused' : 'running' };
}

/** Answers with the row as it was before. */
async function take(
  tx: ControlTransaction,
  input: ClaimInput,
  now: Date,
): Promise<{ sandbox: SandboxRecord; epoch: number }> {
  const { opId, sandboxId, teamId, runId, kind } = input;
  const sandbox = await tx.lockSandbox(sandboxId);
  if (!sandbox || sandbox.teamId !== teamId) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
  const before = await claimedBefore(tx, opId, runId);
  if (before) return { sandbox, epoch: before.epoch };
  const open = await tx.findOpenOperation(sandboxId);
  if (!mayBegin(kind, sandbox.state)) {
    throw new DomainError('state_conflict', `cannot ${verbOf(kind)} sandbox ${sandboxId}: it is ${sandbox.state}`, {
      state: sandbox.state,
      ...(open ? { operation: { id: open.id, kind: open.kind } } : {}),
    });
  }
  if (kind === 'resume') await reserveAgain(tx, sandbox);
  if (open) await supersede(tx, open, input, now);
  const epoch = sandbox.epoch + 1;
  const network = kind === 'network' ? input.network : null;
  await tx.updateSandbox(sandboxId, { state: OPERATIONS[kind].during ?? sandbox.state, epoch });
  await openOperation(
    tx,
    { ...input, hostId: sandbox.hostId, epoch, placement: null, network },
    { from: sandbox.state, ...(network ? { network } : {}) },
  );
  return { sandbox, epoch };
}

export function claimOf(sandbox: SandboxRecord, epoch: number): Claim {
  const { hostId, vcpus, memoryMb, egress, generation } = sandbox;
  return { epoch, hostId, vcpus, memoryMb, egress, network: networkPolicyOf(sandbox), generation };
}

/** A sandbox that is paused or failed holds no memory, so what it had may be promised to others by now. */
export async function reserveAgain(tx: ControlTransaction, sandbox: SandboxRecord): Promise<void> {
  await tx.lockPlacement();
  const host = (await tx.onlineHosts()).find(({ id }) => id === sandbox.hostId);
  // An offline host answers for itself: the step that it does not take names it.
  if (!host || hasRoom(host, sandbox)) return;
  throw new DomainError(
    'no_hosts_available',
    `host ${host.name}, which has the files of sandbox ${sandbox.id}, has no ${sandbox.memoryMb} MiB of memory left`,
    { host_id: host.id, free_memory_mb: host.memoryMb - host.reservedMemoryMb },
  );
}

/**
 * Temporal lets one run at a time be open on a sandbox, so an operation that is still
 * open here was ended from outside (terminated, reset) and cannot say so itself.
 */
export async function supersede(
  tx: ControlTransaction,
  open: OperationRecord,
  by: { opId: string; kind: string },
  now: Date,
): Promise<void> {
  const failure = {
    step: 'workflow',
    code: 'stale_operation',
    message: `run ${open.runId} ended without closing its operation; ${by.kind} ${by.opId} took over`,
  } as const;
  await tx.closeOperation(open.id, { state: 'cancelled', step: failure.step, failure, finishedAt: now });
  await tx.appendEvent({
    sandboxId: open.sandboxId,
    teamId: open.teamId,
    type: `${open.kind}.cancelled`,
    operationId: open.id,
    data: { failure },
  });
}

export async function openOperation(
  tx: ControlTransaction,
  claimed: Pick<OperationRecord, 'kind' | 'sandboxId' | 'teamId' | 'hostId' | 'runId' | 'epoch' | 'placement'> & {
    opId: string;
    reason?: string;
    origin?: RecoveryOrigin;
    network?: NetworkPolicy | null;
  },
  data: Record<string, unknown>,
): Promise<void> {
  const { opId, kind, sandboxId, teamId, hostId, runId, epoch, placement } = claimed;
  const reason = claimed.reason ?? null;
  await tx.insertOperation({
    id: opId,
    kind,
    sandboxId,
    teamId,
    hostId,
    runId,
    state: 'running',
    step: null,
    epoch,
    reason,
    placement,
    origin: claimed.origin ?? null,
    network: claimed.network ?? null,
    failure: null,
    finishedAt: null,
  });
  const event = { sandboxId, teamId, type: `${kind}.started`, operationId: opId };
  await tx.appendEvent({ ...event, data: reason === null ? data : { ...data, reason } });
}

/** The sandbox, if the operation with this epoch still owns it. */
export async function lockOwned(tx: ControlTransaction, sandboxId: string, epoch: number): Promise<SandboxRecord> {
  const sandbox = await tx.lockSandbox(sandboxId);
  if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
  if (sandbox.epoch === epoch) return sandbox;
  throw new DomainError(
    'stale_operation',
    `epoch ${epoch} no longer owns sandbox ${sandboxId}: its epoch is ${sandbox.epoch}`,
    { epoch, current: sandbox.epoch },
  );
}
