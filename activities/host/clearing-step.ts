import type { HostActivities } from './contract.js';
import type { StepRunner } from './step-runner.js';

export function clearingStep(runner: StepRunner): Pick<HostActivities, 'clearVm'> {
  const { ports, connections } = runner;
  return {
    clearVm: runner.step({
      name: 'clearVm',
      lane: 'all',
      work: async ({ sandboxId, disk }, signal) => {
        await ports.hypervisor.kill(sandboxId, signal);
        connections.cut(sandboxId);
        if (disk === 'rollback') await ports.disk.rollback(sandboxId, signal);
        await ports.disk.detach(sandboxId, signal);
      },
    }),
  };
}
