import { control } from './control-steps.js';
import { networkPolicyOf } from './contract/network-policy.js';
import type { UpdateNetworkInput } from './contract/operations.js';
import { hostOf } from './host-of.js';
import { operation } from './operation.js';

/**
 * Gives a sandbox another network policy. It stays running, or paused, all the while; a failure leaves it with the policy
 * that it had. What the row says changes with the end of the operation, once the host does what it says.
 */
export async function UpdateNetwork(input: UpdateNetworkInput): Promise<void> {
  await operation('network', input, async (op) => {
    const claim = await op.claim((by) => control.claimNetwork({ ...input, ...by }));
    // A paused one has no network: its resume makes one by what the row says then.
    if (claim.was === 'paused') return op.forward(() => op.succeed());

    const host = op.host(hostOf(claim, input));
    op.undo.push('policy', () => host.undo('restoreNetworkPolicy', networkPolicyOf(claim)));
    op.stage('policy');
    await host.step('applyNetworkPolicy', input.network);

    await op.forward(async () => {
      await op.succeed();
      await host.forward('closeEpoch', {});
    });
  });
}
