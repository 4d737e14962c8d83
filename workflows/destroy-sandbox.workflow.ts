import { workflowInfo } from '@temporalio/workflow';
import { control } from './control-steps.js';
import type { DestroySandboxInput } from './contract/operations.js';
import { operation } from './operation.js';

/** Ends a sandbox and leaves nothing of it, whatever state it is in. Forward only. */
export async function DestroySandbox(input: DestroySandboxInput): Promise<void> {
  await operation('destroy', input, async (op) => {
    const { runId } = workflowInfo();
    const { hostId } = await op.claim(() => control.claim({ ...input, kind: 'destroy', runId }));
    await op.forward(async () => {
      if (hostId !== null) {
        const host = op.host(hostId);
        op.stage('release');
        await host.forward('killVm', {});
        await host.forward('detachDisk', { outcome: 'delete' });
        await host.forward('releaseNetwork', {});
        await host.forward('deleteFiles', { last: true });
      }
      await op.succeed();
    });
  });
}
