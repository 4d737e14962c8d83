import { upsertSearchAttributes } from '@temporalio/workflow';
import type { Placement } from '../activities/control/contract.js';
import type { VmStarted } from '../activities/host/contract.js';
import { control } from './control-steps.js';
import { networkPolicyOf } from './contract/network-policy.js';
import type { CreateSandboxInput } from './contract/operations.js';
import { HOST_ID, STAGE } from './contract/search-attributes.js';
import { isHostAway } from './failure.js';
import { operation, type Operation } from './operation.js';
import { together } from './together.js';

/** Gives the caller a running microVM on some host, or leaves nothing. */
export async function CreateSandbox(input: CreateSandboxInput): Promise<void> {
  await operation('create', input, async (op) => {
    let placement = await op.claim((by) => control.claimAndPlace({ ...input, ...by }));
    const notHosts: string[] = [];
    let started: VmStarted | undefined;
    while (!started) {
      try {
        started = await buildOn(op, input, placement);
      } catch (err) {
        if (!isHostAway(err)) throw err;
        // An undo would wait on the same dead queue. What the host began it sweeps
        // itself when it returns and is told that the sandbox is not its own.
        op.undo.clear();
        notHosts.push(placement.hostId);
        placement = await control.placeElsewhere({ sandboxId: input.sandboxId, epoch: op.epoch, notHosts });
      }
    }
    const { note } = started;
    await op.forward(async () => {
      await op.succeed(note === undefined ? {} : { note });
      if (input.spec.timeoutSeconds > 0) await control.armTtl({ sandboxId: input.sandboxId });
    });
  });
}

async function buildOn(op: Operation, { spec }: CreateSandboxInput, placement: Placement): Promise<VmStarted> {
  const host = op.host(placement.hostId);
  upsertSearchAttributes([
    { key: HOST_ID, value: placement.hostId },
    { key: STAGE, value: 'build' },
  ]);

  op.undo.push('network', () => host.undo('releaseNetwork', {}));
  op.undo.push('disk', () => host.undo('detachDisk', { outcome: 'delete' }));
  op.stage('network and disk');
  await together(
    () => host.step('setUpNetwork', networkPolicyOf(spec)),
    () => host.step('attachDisk', { source: placement.disk }),
  );

  op.undo.push('vm', () => host.undo('killVm', {}));
  op.stage('vm');
  const started = await host.step('startVm', { vcpus: spec.vcpus, memoryMb: spec.memoryMb, boot: placement.boot });

  op.stage('guest');
  await host.step('initGuest', { last: true });
  return started;
}
