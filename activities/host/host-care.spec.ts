import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeHost } from '../../test/support/fake-host-ports.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { HostActivities, HostCare, Verdict } from './contract.js';
import { createHostActivities } from './host-activities.js';
import { createHostCare } from './host-care.js';
import { StepGate } from './step-gate.js';

let host: FakeHost;
let steps: HostActivities;
let care: HostCare;
let verdicts: Record<string, Verdict>;

beforeEach(() => {
  host = new FakeHost();
  verdicts = {};
  host.verdictOf = (id) => verdicts[id] ?? 'unknown';
  const gate = new StepGate();
  steps = createHostActivities(host.ports, { gate });
  care = createHostCare(host.ports, { gate });
});

async function running(sandboxId: string): Promise<void> {
  const op = { sandboxId, epoch: 1, opId: `create-${sandboxId}` };
  await steps.setUpNetwork({ ...op, egress: true });
  await steps.attachDisk({ ...op, source: { kind: 'image', image: 'minimal' } });
  await steps.startVm({ ...op, vcpus: 1, memoryMb: 256, boot: { kind: 'cold' } });
  await steps.initGuest({ ...op, last: true });
}

async function paused(sandboxId: string): Promise<void> {
  await running(sandboxId);
  const op = { sandboxId, epoch: 2, opId: `pause-${sandboxId}` };
  await steps.quiesceGuest(op);
  await steps.snapshotVm({ ...op, generation: 2 });
  await steps.killVm(op);
  await steps.detachDisk({ ...op, outcome: 'keep' });
  await steps.releaseNetwork({ ...op, last: true });
}

describe('the inventory of a host', () => {
  it('tells of every sandbox what is there, and up to where the journal knows it', async () => {
    await running('a');
    await paused('b');
    host.vms.get('a')!.status = 'frozen';
    await host.ports.disk.create('stranger', await host.ports.images.rootfs('minimal'));
    expect(await care.takeInventory()).toEqual([
      { id: 'a', vm: 'frozen', disk: true, network: true, snapshots: [], epoch: 1 },
      { id: 'b', vm: 'absent', disk: true, network: false, snapshots: [2], epoch: 2 },
      { id: 'stranger', vm: 'absent', disk: true, network: false, snapshots: [], epoch: null },
    ]);
  });

  it('tells of a build that is half published', async () => {
    await running('b1');
    host.faults.fail('disk.publish', new Error('the worker died'), { when: 'after' });
    const build = { sandboxId: 'b1', epoch: 2, opId: 'build', vcpus: 1, memoryMb: 256, image: 'minimal' };
    await expect(steps.publishBuild(build)).rejects.toThrow('the worker died');
    await steps.releaseNetwork(build);
    expect(await care.takeInventory()).toMatchObject([{ id: 'b1', vm: 'absent', disk: false, epoch: 2 }]);
  });

  it('names an epoch that the control plane has lost, and no tombstone', async () => {
    for (const sandboxId of ['restored', 'ended']) {
      await running(sandboxId);
      await steps.killVm({ sandboxId, epoch: 5, opId: 'destroy' });
      await steps.releaseNetwork({ sandboxId, epoch: 5, opId: 'destroy' });
      await steps.deleteFiles({ sandboxId, epoch: 5, opId: 'destroy', last: true });
    }
    verdicts = { restored: 'live', ended: 'ended' };
    expect(await care.takeInventory()).toEqual([
      { id: 'restored', vm: 'absent', disk: false, network: false, snapshots: [], epoch: 5 },
    ]);
  });

  it('does not fail where one VM does not answer', async () => {
    await running('a');
    await running('b');
    host.faults.fail('hypervisor.status', new DomainError('timeout', 'QEMU did not answer'));
    expect((await care.takeInventory()).map(({ vm }) => vm)).toEqual(['frozen', 'running']);
  });
});

describe('removing orphans', () => {
  it('removes what has ended, asking again, and nothing else', async () => {
    for (const id of ['ended', 'live', 'unknown']) await running(id);
    verdicts = { ended: 'ended', live: 'live' };
    const ids = ['ended', 'live', 'unknown', 'absent'];
    expect(await care.removeOrphans({ ids, unknown: false })).toEqual({
      removed: ['ended'],
      kept: ['live', 'unknown', 'absent'],
    });
    expect(host.remaining().filter((left) => left.includes('ended'))).toEqual([]);
    expect(host.remaining()).toHaveLength(6);
    expect(host.violations).toEqual([]);
  });

  it('removes what nobody knows only for somebody who says so', async () => {
    await running('a');
    expect(await care.removeOrphans({ ids: ['a'], unknown: true })).toEqual({ removed: ['a'], kept: [] });
    expect(host.remaining()).toEqual([]);
  });

  it('keeps what ended for this host but is not its own, even then', async () => {
    await host.ports.disk.create('former', await host.ports.images.rootfs('minimal'));
    verdicts = { former: 'ended' };
    expect(await care.removeOrphans({ ids: ['former'], unknown: true })).toEqual({ removed: [], kept: ['former'] });
  });

  it('waits for a step that runs, and asks after it', async () => {
    await running('a');
    verdicts = { a: 'live' };
    const block = host.faults.block('guest.quiesce');
    const quiescing = steps.quiesceGuest({ sandboxId: 'a', epoch: 2, opId: 'pause' });
    await block.reached;
    const removing = care.removeOrphans({ ids: ['a'], unknown: false });
    const asked = () => host.calls.filter(({ method }) => method === 'controlPlane.verdicts').length;
    expect(asked()).toBe(0);
    block.release();
    await quiescing;
    expect(await removing).toEqual({ removed: [], kept: ['a'] });
    expect(asked()).toBe(1);
  });

  it('removes nothing while the control plane cannot be asked', async () => {
    await running('a');
    host.faults.fail('controlPlane.verdicts', new DomainError('control_plane_unavailable', 'connection refused'));
    await expect(care.removeOrphans({ ids: ['a'], unknown: true })).rejects.toMatchObject({
      code: 'control_plane_unavailable',
    });
    expect(host.remaining()).toHaveLength(3);
  });
});
