import { control } from './control-steps.js';
import type { DestroySandboxInput } from './contract/operations.js';
import { operation } from './operation.js';

/** Ends a sandbox and leaves nothing of it, whatever state it is in. Forward only. */
export async function DestroySandbox(input: DestroySandboxInput): Promise<void> {
  await operation('destroy', input, async (op) => {
    const { hostId } = await op.claim((by) => control.claim({ ...input, ...by, kind: 'destroy' }));
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
