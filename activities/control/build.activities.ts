import { DomainError } from '../../workflows/contract/errors.js';
import type { TemplateBuildInput } from '../../workflows/contract/operations.js';
import type { ControlActivities, RunRef } from './contract.js';
import { hasRoom } from './placement.js';
import type { BuildRecord, ControlStore, ControlTransaction } from './ports.js';

type BuildActivities = Pick<ControlActivities, 'beginBuild' | 'appendBuildLog' | 'finishBuild'>;

/** A build id is used by one run, once: there is nothing older to fence off. */
const BUILD_EPOCH = 1;

export function createBuildActivities(store: ControlStore, now: () => Date): BuildActivities {
  return {
    beginBuild: (input) => store.transaction((tx) => beginBuild(tx, input)),
    appendBuildLog: ({ buildId, step, text }) =>
      store.transaction(async (tx) => {
        await lockKnown(tx, buildId);
        await tx.appendBuildLog(buildId, step, text);
      }),
    finishBuild: (input) => store.transaction((tx) => finishBuild(tx, input, now())),
  };
}

async function lockKnown(tx: ControlTransaction, buildId: string): Promise<BuildRecord> {
  const build = await tx.lockBuild(buildId);
  if (build) return build;
  throw new DomainError('not_found', `there is no build ${buildId}`);
}

async function beginBuild(
  tx: ControlTransaction,
  input: TemplateBuildInput & RunRef,
): Promise<{ hostId: string; epoch: number }> {
  const { buildId, runId, image } = input;
  await tx.lockPlacement();
  const existing = await tx.lockBuild(buildId);
  if (existing) {
    if (existing.runId === runId && existing.state === 'running') {
      return { hostId: existing.hostId, epoch: existing.epoch };
    }
    throw new DomainError(
      'stale_operation',
      `build ${buildId} is ${existing.state} and belongs to run ${existing.runId}`,
    );
  }
  const online = await tx.onlineHosts();
  const able = online.filter((host) => host.images.includes(image));
  const [host] = able
    .filter((candidate) => hasRoom(candidate, input))
    .sort((a, b) => a.reservedMemoryMb / a.memoryMb - b.reservedMemoryMb / b.memoryMb || a.id.localeCompare(b.id));
  if (!host) {
    const why =
      able.length === 0
        ? `none of the ${online.length} online hosts has the image "${image}"`
        : `no online host with the image "${image}" has ${input.memoryMb} MiB of memory and ${input.vcpus} vCPUs left`;
    throw new DomainError('no_hosts_available', why, { online: online.length });
  }
  await tx.insertBuild({ ...input, hostId: host.id, epoch: BUILD_EPOCH });
  return { hostId: host.id, epoch: BUILD_EPOCH };
}

async function finishBuild(
  tx: ControlTransaction,
  { buildId, state, artefact, failure }: Parameters<ControlActivities['finishBuild']>[0],
  now: Date,
): Promise<void> {
  const build = await lockKnown(tx, buildId);
  if (build.state === state) return;
  if (build.state !== 'running') {
    throw new DomainError('stale_operation', `build ${buildId} is ${build.state} already and cannot become ${state}`);
  }
  await tx.closeBuild(buildId, { state, artefact: artefact ?? null, failure: failure ?? null, finishedAt: now });
  await tx.deleteSecrets(buildId);
}
