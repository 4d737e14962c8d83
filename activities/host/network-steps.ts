import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { HostActivities } from './contract.js';
import type { StepRunner } from './step-runner.js';

type NetworkSteps = Pick<
  HostActivities,
  'setUpNetwork' | 'applyNetworkPolicy' | 'restoreNetworkPolicy' | 'releaseNetwork'
>;

export function networkSteps(runner: StepRunner): NetworkSteps {
  const { ports, connections } = runner;
  return {
    setUpNetwork: runner.step({
      name: 'setUpNetwork',
      lane: 'network',
      work: async ({ sandboxId, ...input }, signal) => {
        // Until the guest has its token, it would believe anybody.
        connections.cut(sandboxId);
        await ports.network.ensure(sandboxId, policyOf(input), signal);
      },
    }),

    applyNetworkPolicy: runner.step({
      name: 'applyNetworkPolicy',
      lane: 'network',
      work: ({ sandboxId, ...input }, signal) => ports.network.apply(sandboxId, policyOf(input), signal),
    }),

    restoreNetworkPolicy: runner.step({
      name: 'restoreNetworkPolicy',
      lane: 'network',
      undoes: ['applyNetworkPolicy'],
      work: async ({ sandboxId, ...input }, signal) => {
        // Without a network, as after a restart of the machine, nothing lets anything through.
        if (await ports.network.find(sandboxId)) await ports.network.apply(sandboxId, policyOf(input), signal);
      },
    }),

    releaseNetwork: runner.step({
      name: 'releaseNetwork',
      lane: 'network',
      undoes: ['setUpNetwork'],
      work: async ({ sandboxId }, signal) => {
        connections.forget(sandboxId);
        await ports.network.remove(sandboxId, signal);
      },
    }),
  };
}

/** Without what else a step is told. */
function policyOf({ egress, allow, deny, dns, txMegabitsPerSecond }: NetworkPolicy): NetworkPolicy {
  return {
    egress,
    ...(allow && { allow }),
    ...(deny && { deny }),
    ...(dns !== undefined && { dns }),
    ...(txMegabitsPerSecond !== undefined && { txMegabitsPerSecond }),
  };
}
