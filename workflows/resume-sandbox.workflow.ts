import { control } from './control-steps.js';
import { networkPolicyOf } from './contract/network-policy.js';
import type { OperationInput } from './contract/operations.js';
import { hostOf } from './host-of.js';
import { operation } from './operation.js';
import { together } from './together.js';

/** Lets a paused sandbox go on where it stood. A failure leaves the paused state untouched. */
export async function ResumeSandbox(input: OperationInput): Promise<void> {
  await operation('resume', input, async (op) => {
    const claim = await op.claim((by) => control.claim({ ...input, ...by, kind: 'resume' }));
    const { vcpus, memoryMb, generation } = claim;
    const host = op.host(hostOf(claim, input));

    op.undo.push('network', () => host.undo('releaseNetwork', {}));
    op.undo.push('disk', () => host.undo('detachDisk', { outcome: 'rollback' }));
    op.stage('network and disk');
    await together(
      () => host.step('setUpNetwork', networkPolicyOf(claim)),
      () => host.step('attachDisk', { source: { kind: 'own' } }),
    );

    op.undo.push('vm', () => host.undo('killVm', {}));
    op.stage('vm');
    await host.step('startVm', { vcpus, memoryMb, boot: { kind: 'snapshot', generation } });

    op.stage('guest');
    await host.step('initGuest', {});

    // Committed: the guest is the truth now, and the memory it came from is out of date.
    await op.forward(async () => {
      await op.succeed();
      await host.forward('forgetPausedState', { generation, last: true });
      await control.armTtl({ sandboxId: input.sandboxId });
    });
  });
}
