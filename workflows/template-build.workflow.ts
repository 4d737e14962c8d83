import {
  CancellationScope,
  isCancellation,
  setCurrentDetails,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { control } from './control-steps.js';
import type { BuildArtefact } from '../activities/host/contract.js';
import type { TemplateBuildInput } from './contract/operations.js';
import { HOST_ID } from './contract/search-attributes.js';
import { describeFailure, toWorkflowFailure } from './failure.js';
import { HostSteps } from './host-steps.js';
import { timingOf } from './timing.js';
import { together } from './together.js';
import { asAttention, UndoStack } from './undo-stack.js';

/**
 * Boots a root filesystem once, runs the set-up commands in it and saves memory and
 * disk as a warm template that sandboxes of the same size are restored from.
 */
export async function TemplateBuild(input: TemplateBuildInput): Promise<void> {
  const { buildId } = input;
  const { hostId, epoch } = await control.beginBuild({ ...input, runId: workflowInfo().runId });
  upsertSearchAttributes([{ key: HOST_ID, value: hostId }]);
  // To its host a build is a sandbox like any other, under the build's id.
  const host = new HostSteps(hostId, { sandboxId: buildId, epoch, opId: buildId }, timingOf(input));
  const undo = new UndoStack();
  try {
    const artefact = await make(input, host, undo);
    await CancellationScope.nonCancellable(async () => {
      await control.finishBuild({ buildId, state: 'ready', artefact });
      await host.forward('releaseNetwork', {});
      await host.forward('deleteFiles', { last: true });
    });
  } catch (err) {
    const failure = describeFailure(err, 'build');
    const left = await undo.unwind();
    if (left.length > 0) failure.needsAttention = asAttention(left);
    const state = isCancellation(err) ? 'cancelled' : 'failed';
    await CancellationScope.nonCancellable(() => control.finishBuild({ buildId, state, failure }));
    throw isCancellation(err) ? err : toWorkflowFailure(failure);
  }
}

async function make(input: TemplateBuildInput, host: HostSteps, undo: UndoStack): Promise<BuildArtefact> {
  const { vcpus, memoryMb, image } = input;
  undo.push('files', () => host.undo('deleteFiles', { last: true }));
  undo.push('network', () => host.undo('releaseNetwork', {}));
  undo.push('disk', () => host.undo('detachDisk', { outcome: 'delete' }));
  await together(
    () => host.step('setUpNetwork', { egress: true }),
    () => host.step('attachDisk', { source: { kind: 'image', image } }),
  );
  undo.push('vm', () => host.undo('killVm', {}));
  await host.step('startVm', { vcpus, memoryMb, boot: { kind: 'cold' } });
  await host.step('initGuest', {});
  await setUp(input, host);
  await host.step('quiesceGuest', {});
  undo.push('template', () => host.undo('deleteBuild', {}));
  return host.step('publishBuild', { vcpus, memoryMb, image });
}

async function setUp({ buildId, setup }: TemplateBuildInput, host: HostSteps): Promise<void> {
  for (const [index, command] of setup.entries()) {
    setCurrentDetails(`set-up command ${index + 1} of ${setup.length}: \`${command}\``);
    const { exitCode, output, durationMs } = await host.step('runSetupCommand', { index, command });
    const head = `$ ${command}\n`;
    const foot = `[exit ${exitCode} after ${durationMs} ms]\n`;
    await control.appendBuildLog({ buildId, step: index + 1, text: `${head}${output}${foot}` });
    if (exitCode === 0) continue;
    throw toWorkflowFailure({
      step: 'runSetupCommand',
      code: 'guest_failed',
      message: `set-up command ${index + 1} of ${setup.length} exited with ${exitCode}: ${command}`,
    });
  }
}
