import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeHost } from '../../test/support/fake-host-ports.js';
import { DomainError, ERRORS } from '../../workflows/contract/errors.js';
import type { HostActivities } from './contract.js';
import { createHostActivities } from './host-activities.js';

const create = { sandboxId: 's1', epoch: 1, opId: 'create' };
const pause = { sandboxId: 's1', epoch: 2, opId: 'pause' };
const recover = { sandboxId: 's1', epoch: 3, opId: 'recover' };

let host: FakeHost;
let steps: HostActivities;

beforeEach(async () => {
  host = new FakeHost();
  steps = createHostActivities(host.ports);
  await steps.setUpNetwork({ ...create, egress: true });
  await steps.attachDisk({ ...create, source: { kind: 'image', image: 'minimal' } });
  await steps.startVm({ ...create, vcpus: 1, memoryMb: 256, boot: { kind: 'cold' } });
  await steps.initGuest({ ...create, last: true });
});

const needing: [string, () => Promise<unknown>][] = [
  ['quiesceGuest', () => steps.quiesceGuest(pause)],
  ['unquiesceGuest', () => steps.unquiesceGuest(pause)],
  ['snapshotVm', () => steps.snapshotVm({ ...pause, generation: 2 })],
  ['unfreezeVm', () => steps.unfreezeVm(pause)],
  ['runSetupCommand', () => steps.runSetupCommand({ ...pause, index: 0, command: 'make' })],
];

describe('memory that is gone', () => {
  it.each(needing)('ends %s for good, saying what is left', async (_, step) => {
    host.crashVm('s1');
    await expect(step()).rejects.toMatchObject({
      code: 'memory_lost',
      message: 'the VM of s1 is gone, and what was in its memory with it; left on this host: its disk',
      details: { disk: true, snapshots: [] },
    });
    expect(ERRORS.memory_lost.retryable).toBe(false);
  });

  it.each(needing)('ends %s after a restart of the machine as well', async (_, step) => {
    host.losePower();
    await expect(step()).rejects.toMatchObject({ code: 'memory_lost' });
  });

  it('is told from a guest that does not answer', async () => {
    host.faults.fail('guest.quiesce', new DomainError('guest_unavailable', 'no answer'));
    await expect(steps.quiesceGuest(pause)).rejects.toMatchObject({ code: 'guest_unavailable' });
  });

  it('is noticed when the VM ends in the middle of a step', async () => {
    const block = host.faults.block('guest.quiesce');
    const quiescing = steps.quiesceGuest(pause);
    await block.reached;
    host.crashVm('s1');
    block.release();
    await expect(quiescing).rejects.toMatchObject({ code: 'memory_lost', cause: { code: 'guest_unavailable' } });
  });

  it('is not gone once it is saved: a repeated snapshot finds it', async () => {
    host.faults.fail('journal.done', new Error('the worker died'));
    await expect(steps.snapshotVm({ ...pause, generation: 2 })).rejects.toThrow('the worker died');
    host.crashVm('s1');
    expect(await steps.snapshotVm({ ...pause, generation: 2 })).toMatchObject({ generation: 2 });
    await expect(steps.unfreezeVm(pause)).rejects.toThrow('left on this host: its disk, memory snapshot 2');
  });
});

describe('looking at a sandbox of which nobody knows what became of it', () => {
  it('tells what is there and looks again when it is asked again', async () => {
    expect(await steps.inspectSandbox({ ...recover, generation: 0 })).toEqual({
      vm: 'running',
      disk: true,
      snapshot: false,
    });
    host.crashVm('s1');
    expect(await steps.inspectSandbox({ ...recover, generation: 0 })).toMatchObject({ vm: 'absent' });
  });

  it('counts a snapshot only when it is complete', async () => {
    await steps.quiesceGuest(pause);
    await steps.snapshotVm({ ...pause, generation: 2 });
    const inspect = (generation: number) => steps.inspectSandbox({ ...recover, generation });
    expect(await inspect(2)).toEqual({ vm: 'frozen', disk: true, snapshot: true });
    expect(await inspect(1)).toMatchObject({ snapshot: false });
    const file = host.saved.get('s1')?.get(2)?.file ?? '';
    host.files.write(file, 'torn');
    expect(await inspect(2)).toMatchObject({ snapshot: false });
  });

  it('fences: what was on its way before it is refused', async () => {
    await steps.inspectSandbox({ ...recover, generation: 0 });
    await expect(steps.quiesceGuest(pause)).rejects.toMatchObject({ code: 'stale_operation' });
  });
});
