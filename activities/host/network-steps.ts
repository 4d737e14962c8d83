import type { HostActivities } from './contract.js';
import type { StepRunner } from './step-runner.js';

type NetworkSteps = Pick<HostActivities, 'setUpNetwork' | 'releaseNetwork'>;

export function networkSteps(runner: StepRunner): NetworkSteps {
  const { ports, connections } = runner;
  return {
    setUpNetwork: runner.step({
      name: 'setUpNetwork',
      lane: 'network',
      work: async ({ sandboxId, egress }, signal) => {
        // Until the guest has its token, it would believe anybody.
        connections.cut(sandboxId);
        await ports.network.ensure(sandboxId, { egress }, signal);
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
