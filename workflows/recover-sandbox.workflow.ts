import type { RecoverClaim } from '../activities/control/contract.js';
import type { ErrorCode } from './contract/errors.js';
import { networkPolicyOf } from './contract/network-policy.js';
import type { RecoverSandboxInput } from './contract/operations.js';
import { control } from './control-steps.js';
import { describeFailure, toWorkflowFailure } from './failure.js';
import { hostOf } from './host-of.js';
import type { HostSteps } from './host-steps.js';
import { operation, type Operation } from './operation.js';
import { recoveryOf, type Recovery } from './recovery.js';
import { together } from './together.js';

interface Recovering {
  op: Operation;
  host: HostSteps;
  claim: RecoverClaim;
  sandboxId: string;
}

/** Finds out what became of a sandbox that nobody can speak for, and puts it where it can go on. */
export async function RecoverSandbox(input: RecoverSandboxInput): Promise<void> {
  const { sandboxId } = input;
  await operation('recover', input, async (op) => {
    const claim = await op.claim((by) => control.claimRecovery({ ...input, ...by }));
    const host = op.host(hostOf(claim, input));
    op.stage('inspect');
    const found = await host.step('inspectSandbox', { generation: claim.generation });
    const recovering = { op, host, claim, sandboxId };
    const recovery = recoveryOf(claim, found, input);
    if (recovery.way !== 'go on') return carryOut(recovering, recovery, found.vm !== 'absent');
    if (await goesOn(recovering)) return;
    await carryOut(recovering, recoveryOf(claim, { ...found, vm: 'absent' }, input), false);
  });
}

async function carryOut(recovering: Recovering, recovery: Recovery, alive: boolean): Promise<void> {
  const { sandboxId } = recovering;
  switch (recovery.way) {
    case 'go on':
      return;
    case 'take down':
      return takeDown(recovering);
    case 'disk lost':
      if (!alive) releaseAll(recovering);
      throw given('sandbox_lost', `sandbox ${sandboxId} has no disk on its host any more`);
    case 'finish pause':
      return settlePaused(recovering, 'keep');
    case 'back to paused':
      return settlePaused(recovering, 'rollback');
    case 'boot':
      return bootFromDisk(recovering, recovery);
    case 'memory lost':
      releaseAll(recovering);
      throw given(
        'memory_lost',
        `the memory of sandbox ${sandboxId} is lost: ${recovery.reason}; its disk is kept, and its policy is to wait for a decision`,
      );
  }
}

/** A guest that does not answer is no reason to end it, unless it was given up as an error before. */
const BEYOND_HELP: readonly ErrorCode[] = ['guest_unavailable', 'guest_failed'];

/** Returns false when the VM died meanwhile, or when it is in error and its guest does not answer. */
async function goesOn({ op, host, claim, sandboxId }: Recovering): Promise<boolean> {
  const { interrupted, again, was, generation } = claim;
  const pause = interrupted?.kind === 'pause' ? interrupted : undefined;
  op.stage('go on');
  try {
    await host.step('unfreezeVm', {});
    // How far the change of its policy came nobody knows; the row has the one that counts.
    if (interrupted?.kind === 'network') await host.step('applyNetworkPolicy', networkPolicyOf(claim));
    // What an earlier recovery may have booted has not been told yet who it is.
    await host.step(again ? 'initGuest' : 'unquiesceGuest', { last: !pause && was !== 'error' });
  } catch (err) {
    const { code } = describeFailure(err);
    if (code === 'memory_lost' || (was === 'error' && BEYOND_HELP.includes(code))) return false;
    throw err;
  }
  await op.forward(async () => {
    if (pause) await host.forward('deleteSnapshot', { generation: pause.epoch, last: was !== 'error' });
    // It may be in error because a resume could not be taken back: the guest is the truth now, not what that came from.
    if (was === 'error') await host.forward('forgetPausedState', { generation, last: true });
    const reason = 'an earlier recovery was cut off and may have booted it from its disk';
    await op.succeed(again ? { memoryLost: { reason } } : {});
    await control.armTtl({ sandboxId });
  });
  return true;
}

/** Its paused state is complete; what else there is of it stands in the way of the next resume. */
async function settlePaused({ op, host }: Recovering, disk: 'keep' | 'rollback'): Promise<void> {
  await op.forward(async () => {
    op.stage('release');
    await host.forward('killVm', {});
    await host.forward('detachDisk', { outcome: disk });
    await host.forward('releaseNetwork', { last: true });
    await op.succeed({ sandbox: 'paused' });
  });
}

/**
 * A boot is undone by keeping the disk, never by deleting it, and never by rolling it back: the disk is all that is left.
 *
 * About the roll-back point of the disk: attaching a disk returns to a point that an earlier attach made and nobody
 * committed. After a resume whose run was ended between telling its caller and forgetting the paused state, that point is
 * older than what the guest has written since, so `clearVm` first says what of the disk counts, which drops the point, and
 * attaching makes a new one. It is committed with the boot, like that of a resume.
 */
async function bootFromDisk(
  { op, host, claim, sandboxId }: Recovering,
  { disk, reason }: Extract<Recovery, { way: 'boot' }>,
): Promise<void> {
  const { vcpus, memoryMb, generation, interrupted } = claim;
  keepDiskOnly(op, host);
  op.stage('clear');
  await host.step('clearVm', { disk });
  op.stage('network and disk');
  await together(
    () => host.step('setUpNetwork', networkPolicyOf(claim)),
    () => host.step('attachDisk', { source: { kind: 'own' } }),
  );
  op.stage('vm');
  await host.step('startVm', { vcpus, memoryMb, boot: { kind: 'cold' } });
  op.stage('guest');
  await host.step('initGuest', {});

  await op.forward(async () => {
    await op.succeed({ memoryLost: { reason } });
    if (interrupted?.kind === 'pause') await host.forward('deleteSnapshot', { generation: interrupted.epoch });
    await host.forward('forgetPausedState', { generation, last: true });
    await control.armTtl({ sandboxId });
  });
}

/** Nobody was given the sandbox, so nothing of it is worth keeping. */
function takeDown({ op, host, sandboxId }: Recovering): never {
  op.undo.push('files', () => host.undo('deleteFiles', {}));
  op.undo.push('network', () => host.undo('releaseNetwork', {}));
  op.undo.push('disk', () => host.undo('detachDisk', { outcome: 'delete' }));
  op.undo.push('vm', () => host.undo('killVm', {}));
  throw given('sandbox_lost', `the create of sandbox ${sandboxId} was ended from outside before it was done`);
}

/** Everything but the disk: it is what can be booted later. */
function releaseAll({ op, host, claim: { interrupted } }: Recovering): void {
  keepDiskOnly(op, host);
  if (interrupted?.kind !== 'pause') return;
  op.undo.push('snapshot', () => host.undo('deleteSnapshot', { generation: interrupted.epoch }));
}

function keepDiskOnly(op: Operation, host: HostSteps): void {
  op.undo.push('network', () => host.undo('releaseNetwork', {}));
  op.undo.push('disk', () => host.undo('detachDisk', { outcome: 'keep' }));
  op.undo.push('vm', () => host.undo('killVm', {}));
}

/** The answer of a recovery that found out and has no good news. */
function given(code: ErrorCode, message: string): Error {
  return toWorkflowFailure({ step: 'inspectSandbox', code, message });
}
