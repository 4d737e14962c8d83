import { DomainError } from '../../workflows/contract/errors.js';
import type { TemplateBuildInput } from '../../workflows/contract/operations.js';
import type { ControlActivities, RunRef } from './contract.js';
import { hasRoom } from './placement.js';
import type { BuildRecord, ControlStore, ControlTransaction, HostLoad } from './ports.js';

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
  const { buildId, runId } = input;
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
  const host = await chooseHost(tx, input);
  await tx.insertBuild({ ...input, hostId: host.id, epoch: BUILD_EPOCH });
  return { hostId: host.id, epoch: BUILD_EPOCH };
}

async function chooseHost(tx: ControlTransaction, input: TemplateBuildInput): Promise<HostLoad> {
  const { image, vcpus, memoryMb } = input;
  const online = await tx.onlineHosts();
  const able = online.filter((host) => host.images.includes(image));
  const underWay = await sameUnderWay(tx, input);
  const [host] = able
    .filter((candidate) => hasRoom(candidate, input) && !underWay.some(({ hostId }) => hostId === candidate.id))
    .sort((a, b) => a.reservedMemoryMb / a.memoryMb - b.reservedMemoryMb / b.memoryMb || a.id.localeCompare(b.id));
  if (host) return host;
  const [same] = underWay;
  if (same) {
    const message = `build ${same.id} on host ${same.hostId} makes the same already`;
    throw new DomainError('operation_in_progress', message, { build_id: same.id });
  }
  const why =
    able.length === 0
      ? `none of the ${online.length} online hosts has the image "${image}"`
      : `no online host with the image "${image}" has ${memoryMb} MiB of memory and ${vcpus} vCPUs left`;
  throw new DomainError('no_hosts_available', why, { online: online.length });
}

/** Everybody may warm the platform's templates, and on one host one of a size at a time is enough for all. */
async function sameUnderWay(tx: ControlTransaction, input: TemplateBuildInput): Promise<BuildRecord[]> {
  const template = await tx.findTemplate(input.templateId);
  if (!template?.platform) return [];
  const builds = await tx.buildsOf(template.id);
  return builds.filter(
    ({ state, vcpus, memoryMb }) => state === 'running' && vcpus === input.vcpus && memoryMb === input.memoryMb,
  );
}

export async function finishBuild(
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
