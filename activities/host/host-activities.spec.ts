import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeHost } from '../../test/support/fake-host-ports.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities, StepInput } from './contract.js';
import { createHostActivities } from './host-activities.js';

const create = { sandboxId: 's1', epoch: 1, opId: 'create' };
const pause = { sandboxId: 's1', epoch: 2, opId: 'pause' };
const resume = { sandboxId: 's1', epoch: 3, opId: 'resume' };
const build = { sandboxId: 'b1', epoch: 2, opId: 'build', vcpus: 1, memoryMb: 256, image: 'minimal' };
const destroy = { sandboxId: 's1', epoch: 4, opId: 'destroy' };

let host: FakeHost;
let steps: HostActivities;

beforeEach(() => {
  host = new FakeHost();
  steps = createHostActivities(host.ports);
});

async function start(input: StepInput): Promise<void> {
  await Promise.all([
    steps.setUpNetwork({ ...input, egress: true }),
    steps.attachDisk({ ...input, source: { kind: 'image', image: 'minimal' } }),
  ]);
  await steps.startVm({ ...input, vcpus: 1, memoryMb: 256, boot: { kind: 'cold' } });
  await steps.initGuest({ ...input, last: true });
}

async function suspend(input: StepInput): Promise<void> {
  await steps.quiesceGuest(input);
  await steps.snapshotVm({ ...input, generation: 1 });
  await steps.killVm(input);
  await steps.detachDisk({ ...input, outcome: 'keep' });
  await steps.releaseNetwork({ ...input, last: true });
}

async function wake(input: StepInput): Promise<void> {
  await steps.setUpNetwork({ ...input, egress: true });
  await steps.attachDisk({ ...input, source: { kind: 'own' } });
  await steps.startVm({ ...input, vcpus: 1, memoryMb: 256, boot: { kind: 'snapshot', generation: 1 } });
  await steps.initGuest(input);
}

describe('the life of a sandbox on its host', () => {
  it('keeps memory and disk over pause and resume, and leaves nothing after destroy', async () => {
    await start(create);
    host.write('s1', 'before');
    const bootId = host.vms.get('s1')?.memory.bootId;

    await suspend(pause);
    expect(host.remaining()).toEqual(['disk s1', 'snapshot s1 1']);

    await wake(resume);
    await steps.forgetPausedState({ ...resume, generation: 1, last: true });
    expect(host.vms.get('s1')?.memory).toEqual({ bootId, notes: ['before'], quiesced: false });
    expect(host.disks.get('s1')?.content).toEqual(['before']);
    expect(host.inits.map(({ id }) => id)).toEqual(['s1', 's1']);

    await steps.killVm(destroy);
    await steps.detachDisk({ ...destroy, outcome: 'delete' });
    await steps.releaseNetwork(destroy);
    await steps.deleteFiles({ ...destroy, last: true });
    expect(host.remaining()).toEqual([]);
    expect(host.violations).toEqual([]);
    expect(host.epochOf('s1')).toEqual({ epoch: 4, closed: true });
  });

  it('returns to the paused state when a resume is undone', async () => {
    await start(create);
    host.write('s1', 'kept');
    await suspend(pause);
    await wake(resume);
    host.write('s1', 'lost');

    await steps.killVm(resume);
    await steps.detachDisk({ ...resume, outcome: 'rollback' });
    await steps.releaseNetwork(resume);
    await steps.closeEpoch(resume);
    expect(host.remaining()).toEqual(['disk s1', 'snapshot s1 1']);
    expect(host.disks.get('s1')?.content).toEqual(['kept']);
    expect(host.violations).toEqual([]);
  });

  it('unfreezes the guest as soon as its snapshot fails', async () => {
    await start(create);
    await steps.quiesceGuest(pause);
    host.faults.fail('hypervisor.save', new DomainError('disk_full', 'no space'));
    await expect(steps.snapshotVm({ ...pause, generation: 1 })).rejects.toMatchObject({ code: 'disk_full' });
    expect(host.vms.get('s1')?.status).toBe('running');
    expect(host.saved.size).toBe(0);
  });

  it('does not trust a snapshot after which the VM ran on', async () => {
    await start(create);
    host.faults.fail('journal.done', new Error('the worker died'));
    await expect(steps.snapshotVm({ ...pause, generation: 1 })).rejects.toThrow('the worker died');
    host.vms.get('s1')!.status = 'running';
    await expect(steps.snapshotVm({ ...pause, generation: 1 })).rejects.toThrow('ran on after memory snapshot 1');
    await steps.snapshotVm({ ...pause, generation: 1 });
    expect(host.vms.get('s1')?.status).toBe('frozen');
    expect(host.violations).toEqual([]);
  });

  it('boots cold, saying why, where the warm snapshot cannot be restored', async () => {
    await start({ sandboxId: 'b1', epoch: 1, opId: 'begin' });
    await steps.publishBuild(build);
    await steps.releaseNetwork(build);
    expect(host.remaining({ builds: true })).toEqual(['build b1']);

    await steps.setUpNetwork({ ...create, egress: false });
    await steps.attachDisk({ ...create, source: { kind: 'build', buildId: 'b1' } });
    host.faults.fail('hypervisor.start', new Error('memory does not fit'));
    const started = await steps.startVm({ ...create, vcpus: 1, memoryMb: 256, boot: { kind: 'build', buildId: 'b1' } });
    expect(started).toEqual({
      how: 'booted',
      note: 'the warm snapshot of build b1 could not be restored: memory does not fit',
    });
    expect(host.vms.get('s1')?.spec.memoryFile).toBeUndefined();
  });

  it.each([
    ['before its disk was moved', { method: 'hypervisor.kill', when: 'after' }],
    ['after its disk was moved', { method: 'disk.publish', when: 'after' }],
  ] as const)('publishes a build though its worker died behind the end of its VM, %s', async (_, { method, when }) => {
    await start({ sandboxId: 'b1', epoch: 1, opId: 'begin' });
    host.write('b1', 'set up');
    const bootId = host.vms.get('b1')?.memory.bootId;
    host.faults.fail(method, new Error('died'), { when });
    await expect(steps.publishBuild(build)).rejects.toThrow('died');
    expect(host.vms.has('b1')).toBe(false);

    // Another process, which knows the journal and what is on disk.
    const { memoryBytes } = await createHostActivities(host.ports).publishBuild(build);
    expect(memoryBytes).toBeGreaterThan(0);
    expect(host.methodsOf('b1').filter((called) => called === 'hypervisor.save')).toHaveLength(1);
    await steps.releaseNetwork(build);
    expect(host.remaining({ builds: true })).toEqual(['build b1']);

    await steps.setUpNetwork({ ...create, egress: false });
    await steps.attachDisk({ ...create, source: { kind: 'build', buildId: 'b1' } });
    await steps.startVm({ ...create, vcpus: 1, memoryMb: 256, boot: { kind: 'build', buildId: 'b1' } });
    expect(host.vms.get('s1')?.memory).toMatchObject({ bootId, notes: ['set up'] });
  });

  it('saves the memory of a build again when its guest ran on', async () => {
    await start({ sandboxId: 'b1', epoch: 1, opId: 'begin' });
    host.faults.fail('hypervisor.kill', new Error('died'));
    await expect(steps.publishBuild(build)).rejects.toThrow('died');
    host.vms.get('b1')!.status = 'running';
    await steps.publishBuild(build);
    expect(host.methodsOf('b1').filter((called) => called === 'hypervisor.save')).toHaveLength(2);
  });

  it('breaks what was connected before a VM starts, and admits nobody before its guest knows its token', async () => {
    const order: string[] = [];
    const connections = {
      hold: async () => void order.push('hold'),
      admit: () => void order.push('admit'),
      cut: () => void order.push('cut'),
      forget: () => void order.push('forget'),
    };
    await steps.setUpNetwork({ ...create, egress: true });
    await steps.attachDisk({ ...create, source: { kind: 'image', image: 'minimal' } });
    // A worker that started in the middle of the operation.
    const restarted = createHostActivities(host.ports, { connections });
    const block = host.faults.block('hypervisor.start');
    const starting = restarted.startVm({ ...create, vcpus: 1, memoryMb: 256, boot: { kind: 'cold' } });
    await block.reached;
    expect(order).toEqual(['cut']);
    block.release();
    await starting;
    await restarted.initGuest(create);
    expect(order).toEqual(['cut', 'admit']);
  });

  it('refuses to take a disk from under a living VM', async () => {
    await start(create);
    await expect(steps.detachDisk({ ...destroy, outcome: 'delete' })).rejects.toMatchObject({ code: 'state_conflict' });
    expect(host.disks.has('s1')).toBe(true);
  });

  it('tells how a guest that never answered ended', async () => {
    await steps.setUpNetwork({ ...create, egress: true });
    await steps.attachDisk({ ...create, source: { kind: 'image', image: 'minimal' } });
    await expect(steps.initGuest(create)).rejects.toThrow('its VM is absent, the console ends with: nothing');
  });

  it('gives a set-up command its recorded outcome when it is asked again', async () => {
    await start(create);
    host.commandResults.set('make', { exitCode: 2, output: 'no rule' });
    const input = { ...pause, index: 0, command: 'make' };
    const first = await steps.runSetupCommand(input);
    expect(await steps.runSetupCommand(input)).toEqual(first);
    expect(first).toMatchObject({ exitCode: 2, output: 'no rule' });
    expect(host.methodsOf('s1').filter((method) => method === 'guest.run')).toHaveLength(1);
  });
});
