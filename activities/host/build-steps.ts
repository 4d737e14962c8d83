import type { HostActivities } from './contract.js';
import { freezeAndSave } from './snapshot-steps.js';
import type { StepRunner } from './step-runner.js';

type BuildSteps = Pick<HostActivities, 'publishBuild' | 'deleteBuild'>;

export function buildSteps(runner: StepRunner): BuildSteps {
  const { ports, connections } = runner;
  return {
    publishBuild: runner.step({
      name: 'publishBuild',
      lane: 'all',
      work: ({ sandboxId: buildId }, signal) =>
        ports.builds.save(
          buildId,
          async ({ memoryFile, diskFile }) => {
            const { identity } = ports.hypervisor;
            const memory = await freezeAndSave(ports, buildId, memoryFile, signal);
            await ports.hypervisor.kill(buildId, signal);
            connections.cut(buildId);
            const disk = await ports.disk.publish(buildId, diskFile, signal);
            return {
              memoryBytes: memory.bytes,
              diskBytes: disk.bytes,
              hypervisor: `${identity.name} ${identity.version}`,
              cpu: identity.cpu,
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
