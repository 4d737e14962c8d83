import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities } from './contract.js';
import type { HostPorts } from './ports.js';
import type { StepRunner } from './step-runner.js';

export function inspectionStep(runner: StepRunner): Pick<HostActivities, 'inspectSandbox'> {
  const { ports } = runner;
  return {
    inspectSandbox: runner.step({
      name: 'inspectSandbox',
      lane: 'all',
      looksAnew: true,
      work: async ({ sandboxId, generation }) => {
        const [vm, disk, snapshot] = await Promise.all([
          ports.hypervisor.status(sandboxId),
          ports.disk.find(sandboxId),
          isComplete(ports, sandboxId, generation),
        ]);
        return { vm, disk: disk !== undefined, snapshot };
      },
    }),
  };
}

/** One that is there and cannot be trusted is no snapshot to whoever wants to go on from it. */
async function isComplete(ports: HostPorts, sandboxId: string, generation: number): Promise<boolean> {
  try {
    await ports.snapshots.memoryFile(sandboxId, generation);
    return true;
  } catch (err) {
    // What saved it may come back; until then it is worth keeping.
    if (err instanceof DomainError && err.code === 'snapshot_incompatible') return true;
    if (err instanceof DomainError && (err.code === 'not_found' || err.code === 'snapshot_corrupt')) return false;
    throw err;
  }
}
