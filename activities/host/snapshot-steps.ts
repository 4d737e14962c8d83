import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities } from './contract.js';
import { explained } from './memory-lost.js';
import type { HostPorts } from './ports.js';
import type { StepRunner } from './step-runner.js';

type SnapshotSteps = Pick<HostActivities, 'snapshotVm' | 'deleteSnapshot' | 'forgetPausedState'>;

export function snapshotSteps(runner: StepRunner): SnapshotSteps {
  const { ports } = runner;
  return {
    snapshotVm: runner.step({
      name: 'snapshotVm',
      lane: 'all',
      discriminator: ({ generation }) => String(generation),
      work: async ({ sandboxId, generation }, signal) => {
        try {
          const info = await explained(ports, sandboxId, () =>
            ports.snapshots.save(
              sandboxId,
              generation,
              (file) => freezeAndSave(ports, sandboxId, file, signal),
              signal,
            ),
          );
          await refuseOutdated(ports, sandboxId, generation);
          return info;
        } catch (err) {
          await unfreezeAfterFailure(runner, sandboxId);
          throw err;
        }
      },
    }),

    deleteSnapshot: runner.step({
      name: 'deleteSnapshot',
      lane: 'all',
      discriminator: ({ generation }) => String(generation),
      undoes: ['snapshotVm'],
      work: ({ sandboxId, generation }) => ports.snapshots.delete(sandboxId, generation),
    }),

    forgetPausedState: runner.step({
      name: 'forgetPausedState',
      lane: 'all',
      discriminator: ({ generation }) => String(generation),
      work: async ({ sandboxId, generation }, signal) => {
        // The disk first: memory without its roll-back point is useless, the point without memory is not.
        await ports.disk.commit(sandboxId, signal);
        await ports.hypervisor.awaitMemory(sandboxId, signal);
        await ports.snapshots.delete(sandboxId, generation);
      },
    }),
  };
}

/** Leaves the VM frozen: whatever it did from here on would not be in the memory that was saved. */
export async function freezeAndSave(
  ports: Pick<HostPorts, 'hypervisor'>,
  id: string,
  memoryFile: string,
  signal: AbortSignal,
): Promise<{ bytes: number; sha256: string; frozenMs: number }> {
  await ports.hypervisor.freeze(id, signal);
  const frozenAt = performance.now();
  const { bytes, sha256 } = await ports.hypervisor.save(id, memoryFile, signal);
  return { bytes, sha256, frozenMs: Math.round(performance.now() - frozenAt) };
}

/** A snapshot that an earlier attempt completed is worthless if the VM went on since. */
async function refuseOutdated(ports: HostPorts, sandboxId: string, generation: number): Promise<void> {
  if ((await ports.hypervisor.status(sandboxId)) !== 'running') return;
  await ports.snapshots.delete(sandboxId, generation);
  throw new DomainError(
    'internal_error',
    `the VM of ${sandboxId} ran on after memory snapshot ${generation} was saved; it was deleted`,
    {
      sandboxId,
      generation,
    },
  );
}

/**
 * At once, not only when the operation unwinds: the guest would stand still through
 * every pause between attempts. The step's own signal is not passed, as it may be
 * what ended the attempt.
 */
async function unfreezeAfterFailure(runner: StepRunner, sandboxId: string): Promise<void> {
  const { hypervisor } = runner.ports;
  try {
    if ((await hypervisor.status(sandboxId)) === 'frozen') await hypervisor.unfreeze(sandboxId);
  } catch (err) {
    runner.log.warn({ err, sandboxId }, 'the VM stays frozen after a failed snapshot until the operation is undone');
  }
}
