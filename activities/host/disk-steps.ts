import { DomainError } from '../../workflows/contract/errors.js';
import type { DiskSource, HostActivities } from './contract.js';
import type { DiskBase, HostPorts } from './ports.js';
import type { StepRunner } from './step-runner.js';

type DiskSteps = Pick<HostActivities, 'attachDisk' | 'detachDisk'>;

export function diskSteps(runner: StepRunner): DiskSteps {
  const { ports } = runner;
  return {
    attachDisk: runner.step({
      name: 'attachDisk',
      lane: 'disk',
      work: async ({ sandboxId, source }, signal) => {
        if (source.kind === 'own') {
          await refuseUnderVm(ports, sandboxId, 'attached');
          await ports.disk.attach(sandboxId, signal);
        } else {
          await ports.disk.create(sandboxId, await baseOf(ports, source), signal);
        }
      },
    }),

    detachDisk: runner.step({
      name: 'detachDisk',
      lane: 'disk',
      discriminator: ({ outcome }) => outcome,
      undoes: ['attachDisk'],
      work: async ({ sandboxId, outcome }, signal) => {
        await refuseUnderVm(ports, sandboxId, 'detached');
        switch (outcome) {
          case 'keep':
            return ports.disk.detach(sandboxId, signal);
          case 'rollback':
            await ports.disk.rollback(sandboxId, signal);
            return ports.disk.detach(sandboxId, signal);
          case 'delete':
            return ports.disk.remove(sandboxId, signal);
        }
      },
    }),
  };
}

async function baseOf(ports: HostPorts, source: Exclude<DiskSource, { kind: 'own' }>): Promise<DiskBase> {
  if (source.kind === 'image') return ports.images.rootfs(source.image);
  return (await ports.builds.find(source.buildId)).disk;
}

/** A disk taken from under its VM is a corrupt one. That the VM could not be ended is the failure to look at. */
async function refuseUnderVm(ports: HostPorts, sandboxId: string, verb: string): Promise<void> {
  const status = await ports.hypervisor.status(sandboxId);
  if (status === 'absent') return;
  throw new DomainError(
    'state_conflict',
    `the disk of ${sandboxId} cannot be ${verb} while its VM is ${status}; end the VM first`,
    {
      sandboxId,
      vm: status,
    },
  );
}
