import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities, VmBoot, VmStarted } from './contract.js';
import { withMemory } from './memory-lost.js';
import type { HostPorts, VmSpec } from './ports.js';
import type { StepRunner } from './step-runner.js';

type VmSteps = Pick<HostActivities, 'startVm' | 'killVm' | 'unfreezeVm'>;

export function vmSteps(runner: StepRunner): VmSteps {
  const { ports, connections } = runner;
  return {
    startVm: runner.step({
      name: 'startVm',
      lane: 'all',
      work: async ({ sandboxId, boot, ...shape }, signal) => {
        // A worker that restarted since the network was set up remembers no such cut, and may have let clients in: what
        // they reached is not the guest that starts now.
        connections.cut(sandboxId);
        const spec = await wiring(ports, sandboxId, shape);
        switch (boot.kind) {
          case 'cold':
            await ports.hypervisor.start(sandboxId, spec, signal);
            return { how: 'booted' };
          case 'snapshot': {
            const memoryFile = await ports.snapshots.memoryFile(sandboxId, boot.generation);
            await ports.hypervisor.start(sandboxId, { ...spec, memoryFile }, signal);
            return { how: 'restored' };
          }
          case 'build':
            return startWarm(runner, sandboxId, spec, boot, signal);
        }
      },
    }),

    killVm: runner.step({
      name: 'killVm',
      lane: 'all',
      undoes: ['startVm'],
      work: async ({ sandboxId }, signal) => {
        await ports.hypervisor.kill(sandboxId, signal);
        // After the kill: a client must see its connection break because the guest is gone.
        connections.cut(sandboxId);
      },
    }),

    unfreezeVm: runner.step({
      name: 'unfreezeVm',
      lane: 'all',
      undoes: ['snapshotVm'],
      work: ({ sandboxId }, signal) => withMemory(ports, sandboxId, () => ports.hypervisor.unfreeze(sandboxId, signal)),
    }),
  };
}

/** A warm start saves time and holds nothing of the caller's, so a cold boot is as good where it fails. */
async function startWarm(
  runner: StepRunner,
  sandboxId: string,
  spec: VmSpec,
  boot: Extract<VmBoot, { kind: 'build' }>,
  signal: AbortSignal,
): Promise<VmStarted> {
  const { hypervisor, builds } = runner.ports;
  try {
    const memoryFile = await builds.memoryFile(boot.buildId);
    await hypervisor.start(sandboxId, { ...spec, memoryFile }, signal);
    return { how: 'restored' };
  } catch (err) {
    if (signal.aborted || (err instanceof DomainError && err.code === 'disk_full')) throw err;
    runner.log.warn({ err, sandboxId, buildId: boot.buildId }, 'warm snapshot not restored, booting cold');
    await hypervisor.kill(sandboxId, signal);
    await hypervisor.start(sandboxId, spec, signal);
    const why = err instanceof Error ? err.message : String(err);
    return { how: 'booted', note: `the warm snapshot of build ${boot.buildId} could not be restored: ${why}` };
  }
}

async function wiring(
  ports: HostPorts,
  sandboxId: string,
  { vcpus, memoryMb }: { vcpus: number; memoryMb: number },
): Promise<VmSpec> {
  const [network, disk] = await Promise.all([ports.network.find(sandboxId), ports.disk.find(sandboxId)]);
  if (!network) throw missing(sandboxId, 'network');
  if (!disk) throw missing(sandboxId, 'disk');
  return { vcpus, memoryMb, network, disk };
}

function missing(sandboxId: string, what: 'network' | 'disk'): DomainError {
  return new DomainError(
    'state_conflict',
    `the VM of ${sandboxId} cannot start: its ${what} is not there any more, as after a restart of the machine`,
    { sandboxId, missing: what },
  );
}
