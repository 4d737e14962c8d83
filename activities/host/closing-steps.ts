import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities } from './contract.js';
import type { GuestConnections } from './guest-connections.js';
import type { HostPorts } from './ports.js';
import type { Step, StepRunner } from './step-runner.js';

type ClosingSteps = Pick<HostActivities, 'deleteFiles' | 'closeEpoch'>;

export function closingSteps(runner: StepRunner): ClosingSteps {
  const { ports, connections } = runner;
  const close = runner.step({ name: 'closeEpoch', lane: 'all', work: async () => {} });
  return {
    deleteFiles: runner.step({
      name: 'deleteFiles',
      lane: 'all',
      undoes: ['setUpNetwork', 'attachDisk', 'startVm', 'snapshotVm'],
      work: ({ sandboxId }, signal) => removeEverything(ports, connections, sandboxId, signal),
    }),
    closeEpoch: acceptClosed((input) => close({ ...input, last: true })),
  };
}

/**
 * All that a sandbox has on this host, in the order in which it can go: the process
 * that uses the rest first. Nothing of it need exist.
 */
export async function removeEverything(
  ports: HostPorts,
  connections: GuestConnections,
  id: string,
  signal?: AbortSignal,
): Promise<void> {
  await ports.hypervisor.kill(id, signal);
  connections.forget(id);
  await ports.disk.remove(id, signal);
  await ports.network.remove(id, signal);
  await ports.snapshots.deleteAll(id);
}

/** What is refused as stale is closed already. */
function acceptClosed(step: Step<Parameters<HostActivities['closeEpoch']>[0], void>): HostActivities['closeEpoch'] {
  return async (input) => {
    try {
      await step(input);
    } catch (err) {
      if (!(err instanceof DomainError) || err.code !== 'stale_operation') throw err;
    }
  };
}
