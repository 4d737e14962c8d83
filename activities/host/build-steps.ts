import type { HostActivities, StepInput } from './contract.js';
import type { HostPorts } from './ports.js';
import { freezeAndSave } from './snapshot-steps.js';
import type { StepRunner } from './step-runner.js';

type BuildSteps = Pick<HostActivities, 'publishBuild' | 'deleteBuild'>;

export function buildSteps(runner: StepRunner): BuildSteps {
  const { ports, connections } = runner;
  return {
    publishBuild: runner.step({
      name: 'publishBuild',
      lane: 'all',
      work: (input, signal) =>
        ports.builds.save(
          input.sandboxId,
          async ({ memoryFile, diskFile }) => {
            const buildId = input.sandboxId;
            const { identity } = ports.hypervisor;
            const memory = await memoryOnce(ports, input, memoryFile, signal);
            await ports.hypervisor.kill(buildId, signal);
            connections.cut(buildId);
            const disk = await ports.disk.publish(buildId, diskFile, signal);
            return {
              memoryBytes: memory.bytes,
              diskBytes: disk.bytes,
              hypervisor: `${identity.name} ${identity.version}`,
              cpu: identity.cpu,
              diskFormat: disk.base.format,
              disk: disk.base,
              sha256: memory.sha256,
            };
          },
          signal,
        ),
    }),

    deleteBuild: runner.step({
      name: 'deleteBuild',
      lane: 'all',
      undoes: ['publishBuild'],
      work: ({ sandboxId: buildId }) => ports.builds.delete(buildId),
    }),
  };
}

/**
 * Once the VM is killed its memory cannot be saved again, so what was saved is journaled
 * before: an attempt that finds the VM gone goes on with the file that is there.
 */
async function memoryOnce(
  ports: HostPorts,
  { sandboxId, epoch, opId }: StepInput,
  memoryFile: string,
  signal: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const key = { sandboxId, epoch, opId, step: 'publishBuild:memory' };
  const begun = await ports.journal.begin(key);
  // A guest that ran on since has left its saved memory behind.
  if (begun.done && (await ports.hypervisor.status(sandboxId)) !== 'running') {
    return begun.result as { bytes: number; sha256: string };
  }
  const { bytes, sha256 } = await freezeAndSave(ports, sandboxId, memoryFile, signal);
  await ports.journal.done(key, { bytes, sha256 }, false);
  return { bytes, sha256 };
}
