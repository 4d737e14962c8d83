import { CancellationScope } from '@temporalio/workflow';
import { control } from './control-steps.js';
import type { OperationInput } from './contract/operations.js';
import { operation } from './operation.js';
import { hostOf } from './host-of.js';

/**
 * Writes the memory of a running sandbox to disk and frees everything but its files.
 * Until the snapshot is recorded a failure leaves the sandbox running and usable;
 * from then on the pause only goes forward.
 */
export async function PauseSandbox(input: OperationInput): Promise<void> {
  await operation('pause', input, async (op) => {
    const claim = await op.claim((by) => control.claim({ ...input, ...by, kind: 'pause' }));
    const host = op.host(hostOf(claim, input));
    // Unique per operation, so that what an earlier, failed pause may have left is never taken for this one's.
    const generation = claim.epoch;

    op.undo.push('quiesce', () => host.undo('unquiesceGuest', {}));
    op.stage('quiesce');
    await host.step('quiesceGuest', {});

    op.undo.push('snapshot', () => host.undo('deleteSnapshot', { generation }));
    op.undo.push('freeze', () => host.undo('unfreezeVm', {}));
    op.stage('snapshot');
    const snapshot = await host.step('snapshotVm', { generation });
    await CancellationScope.nonCancellable(() =>
      control.recordGeneration({ sandboxId: input.sandboxId, epoch: claim.epoch, snapshot }),
    );

    await op.forward(async () => {
      op.stage('release');
      await host.forward('killVm', {});
      await host.forward('detachDisk', { outcome: 'keep' });
      await host.forward('releaseNetwork', { last: true });
      await op.succeed();
    });
  });
}
