import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { noConnections } from '../activities/host/guest-connections.js';
import { createHostActivities } from '../activities/host/host-activities.js';
import type { HostActivities, Verdict } from '../activities/host/contract.js';
import { StepGate } from '../activities/host/step-gate.js';
import { FakeHost } from '../test/support/fake-host-ports.js';
import { DomainError } from '../workflows/contract/errors.js';
import { adopt, type Caretaker } from './adopt.js';
import type { AssignedSandbox } from './control-plane.client.js';
import { FileJournal } from './journal.js';
import { reclaim } from './reclaim.js';

const DAY_MS = 24 * 60 * 60 * 1_000;
const quiet = { info: () => {}, warn: () => {} };

let dir: string;
let host: FakeHost;
let steps: HostActivities;
let caretaker: Caretaker;
let answer: AssignedSandbox[];
let verdicts: Record<string, Verdict>;
const warned: string[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'caretaking-'));
  host = new FakeHost();
  const journal = await FileJournal.open(dir, 'h1', quiet);
  const gate = new StepGate();
  const ports = { ...host.ports, journal };
  steps = createHostActivities(ports, { gate });
  answer = [];
  verdicts = {};
  host.verdictOf = (id) => verdicts[id] ?? 'unknown';
  warned.length = 0;
  const log = { info: () => {}, warn: (_: object, message: string) => void warned.push(message) };
  caretaker = { ports, journal, gate, assigned: async () => answer, log };
});

afterEach(() => rm(dir, { recursive: true }));

async function running(sandboxId: string): Promise<void> {
  const op = { sandboxId, epoch: 1, opId: `create-${sandboxId}` };
  await steps.setUpNetwork({ ...op, egress: true });
  await steps.attachDisk({ ...op, source: { kind: 'image', image: 'minimal' } });
  await steps.startVm({ ...op, vcpus: 1, memoryMb: 256, boot: { kind: 'cold' } });
  await steps.initGuest({ ...op, last: true });
}

function known(id: string, over: Partial<AssignedSandbox> = {}): AssignedSandbox {
  return { id, state: 'running', epoch: 1, open_operation: false, ...over };
}

const sweep = (options = {}) => reclaim(caretaker, noConnections, options);

describe('adopting', () => {
  it('leaves running VMs alone and wakes one that nobody wants frozen', async () => {
    await running('a');
    await running('b');
    host.vms.get('b')!.status = 'frozen';
    answer = [known('a'), known('b')];
    expect(await adopt(caretaker)).toEqual({ running: ['a'], unfrozen: ['b'], frozen: [], dead: [], unconfirmed: [] });
    expect(host.vms.get('b')?.status).toBe('running');
  });

  it.each([
    ['an operation is open', known('a', { open_operation: true })],
    ['the sandbox is being paused', known('a', { state: 'pausing' })],
    ['the sandbox counts as paused', known('a', { state: 'paused' })],
    ['a newer operation began since the answer', known('a', { epoch: 0 })],
  ])('leaves a frozen VM alone when %s', async (_, sandbox) => {
    await running('a');
    host.vms.get('a')!.status = 'frozen';
    answer = [sandbox];
    expect(await adopt(caretaker)).toMatchObject({ unfrozen: [], frozen: ['a'] });
    expect(host.vms.get('a')?.status).toBe('frozen');
  });

  it('adopts the others where one does not answer', async () => {
    await running('a');
    await running('b');
    host.faults.fail('hypervisor.status', new DomainError('timeout', 'QEMU did not answer'));
    expect(await adopt(caretaker)).toMatchObject({ running: ['b'], unconfirmed: ['a'] });
    expect(host.remaining()).toHaveLength(6);
    expect(warned).toEqual([expect.stringContaining('cannot be adopted')]);
  });

  it('goes on where one cannot be woken', async () => {
    for (const id of ['a', 'b']) {
      await running(id);
      host.vms.get(id)!.status = 'frozen';
    }
    answer = [known('a'), known('b')];
    host.faults.fail('hypervisor.unfreeze', new Error('QEMU refused'));
    expect(await adopt(caretaker)).toMatchObject({ unfrozen: ['b'], frozen: ['a'] });
  });
});

describe('reclaiming', () => {
  it('removes all that is left of what the control plane says has ended', async () => {
    await running('gone');
    await running('here');
    verdicts = { gone: 'ended', here: 'live' };
    expect(await sweep()).toMatchObject({ removed: ['gone'], unknown: [], foreign: [], failed: [] });
    expect(host.remaining()).toEqual(['disk here', 'network here', 'vm here running']);
    expect(host.violations).toEqual([]);
    expect((await sweep()).removed).toEqual([]);
  });

  it('keeps everything when the control plane cannot be asked', async () => {
    await running('a');
    verdicts = { a: 'ended' };
    host.faults.fail('controlPlane.verdicts', new DomainError('control_plane_unavailable', 'connection refused'));
    await expect(sweep()).rejects.toMatchObject({ code: 'control_plane_unavailable' });
    expect(host.remaining()).toHaveLength(3);
  });

  it('keeps and reports what the control plane never knew, as when its database is older than this host', async () => {
    await running('a');
    expect(await sweep({ now: Date.now() + 2 * DAY_MS })).toMatchObject({ removed: [], unknown: ['a'], forgotten: [] });
    expect(host.remaining()).toHaveLength(3);
    expect(warned).toEqual([expect.stringContaining('kept')]);
    // Its database caught up, or somebody decided.
    verdicts = { a: 'ended' };
    expect(await sweep()).toMatchObject({ removed: ['a'] });
  });

  it('keeps what has ended for this host but was not made by it', async () => {
    await host.ports.disk.create('stranger', await host.ports.images.rootfs('minimal'));
    verdicts = { stranger: 'ended' };
    expect(await sweep()).toMatchObject({ removed: [], foreign: ['stranger'] });
    expect(host.remaining()).toEqual(['disk stranger']);
  });

  it('keeps what this machine made as another host, as after the loss of the control plane', async () => {
    await running('a');
    verdicts = { a: 'ended' };
    const journal = await FileJournal.open(dir, 'h2', quiet);
    const other = { ...caretaker, journal, ports: { ...caretaker.ports, journal } };
    expect(await reclaim(other, noConnections)).toMatchObject({ removed: [], foreign: ['a'] });
    expect(host.remaining()).toHaveLength(3);
  });

  it('asks again before it removes, while no step of the sandbox runs', async () => {
    await running('a');
    verdicts = { a: 'ended' };
    const block = host.faults.block('controlPlane.verdicts');
    const sweeping = sweep();
    await block.reached;
    host.verdictOf = () => {
      host.verdictOf = () => 'live';
      return 'ended';
    };
    block.release();
    expect(await sweeping).toMatchObject({ removed: [], failed: [] });
    expect(host.remaining()).toHaveLength(3);
  });

  it('does not remove what is made while the control plane is asked', async () => {
    await running('old');
    const block = host.faults.block('controlPlane.verdicts');
    const sweeping = sweep();
    await block.reached;
    await running('new');
    verdicts = { old: 'ended', new: 'ended' };
    block.release();
    expect(await sweeping).toMatchObject({ removed: ['old'] });
    expect(host.remaining()).toEqual(['disk new', 'network new', 'vm new running']);
  });

  it('goes on after a failure and tries again', async () => {
    await running('a');
    await running('b');
    verdicts = { a: 'ended', b: 'ended' };
    host.faults.fail('disk.remove', new Error('busy'));
    const first = await sweep();
    expect([first.removed.length, first.failed.length]).toEqual([1, 1]);
    expect((await sweep()).removed).toHaveLength(1);
    expect(host.remaining()).toEqual([]);
  });

  const publish = (sandboxId: string) => {
    const shape = { vcpus: 1, memoryMb: 256, image: 'minimal' };
    return steps.publishBuild({ sandboxId, epoch: 2, opId: 'build', ...shape, last: true });
  };

  it('keeps published builds, whatever became of their making', async () => {
    await running('b1');
    await publish('b1');
    verdicts = { b1: 'ended' };
    expect(await sweep()).toMatchObject({ removed: ['b1'] });
    expect(host.remaining({ builds: true })).toEqual(['build b1']);
  });

  it('removes what an ended build had not published, and keeps that of a running one', async () => {
    for (const id of ['b1', 'b2']) {
      await running(id);
      host.faults.fail('disk.publish', new Error('the worker died'));
      await expect(publish(id)).rejects.toThrow('the worker died');
    }
    verdicts = { b1: 'ended', b2: 'live' };
    expect(host.remaining()).toContain('unfinished-build b1');
    expect(await sweep()).toMatchObject({ removed: ['b1'] });
    expect(host.remaining()).toEqual(['disk b2', 'network b2', 'unfinished-build b2']);
  });

  it('forgets the journal of a sandbox a day after its end, not before and never while it lives', async () => {
    await running('a');
    await running('live');
    verdicts = { a: 'ended', live: 'live' };
    await sweep();
    expect(caretaker.journal.find('a')).toBeDefined();
    expect(await sweep({ now: Date.now() + DAY_MS + 1_000 })).toMatchObject({ forgotten: ['a'] });
    expect(caretaker.journal.entries().map(({ sandboxId }) => sandboxId)).toEqual(['live']);
  });

  it('asks nothing where there is nothing', async () => {
    await sweep();
    expect(host.calls.filter(({ method }) => method === 'controlPlane.verdicts')).toEqual([]);
  });
});
