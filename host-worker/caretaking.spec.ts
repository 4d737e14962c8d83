import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { noConnections } from '../activities/host/guest-connections.js';
import { createHostActivities } from '../activities/host/host-activities.js';
import type { HostActivities } from '../activities/host/contract.js';
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
let answer: AssignedSandbox[] | Error;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'caretaking-'));
  host = new FakeHost();
  const journal = await FileJournal.open(dir, 'h1', quiet);
  const gate = new StepGate();
  const ports = { ...host.ports, journal };
  steps = createHostActivities(ports, { gate });
  answer = [];
  const assigned = async () => {
    if (answer instanceof Error) throw answer;
    return answer;
  };
  caretaker = { ports, journal, gate, assigned, log: quiet };
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

const sweep = (options = {}) => reclaim(caretaker, noConnections, { hostId: 'h1', ...options });

describe('adopting', () => {
  it('leaves running VMs alone and wakes one that nobody wants frozen', async () => {
    await running('a');
    await running('b');
    host.vms.get('b')!.status = 'frozen';
    answer = [known('a'), known('b')];
    expect(await adopt(caretaker)).toEqual({ running: ['a'], unfrozen: ['b'], frozen: [] });
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
});

describe('reclaiming', () => {
  it('removes all that a sandbox left that the control plane knows no more', async () => {
    await running('gone');
    await running('here');
    answer = [known('here')];
    expect(await sweep()).toMatchObject({ removed: ['gone'], failed: [] });
    expect(host.remaining()).toEqual(['disk here', 'network here', 'vm here running']);
    expect(host.violations).toEqual([]);
  });

  it('keeps everything when the control plane cannot be asked', async () => {
    await running('a');
    answer = new DomainError('control_plane_unavailable', 'connection refused');
    await expect(sweep()).rejects.toMatchObject({ code: 'control_plane_unavailable' });
    expect(host.remaining()).toHaveLength(3);
  });

  it('keeps what neither the control plane nor the journal knows', async () => {
    await host.ports.disk.create('stranger', await host.ports.images.rootfs('minimal'));
    expect(await sweep()).toMatchObject({ removed: [], foreign: ['stranger'] });
    expect(host.remaining()).toEqual(['disk stranger']);
  });

  it('keeps what this machine made as another host, as after the loss of the control plane', async () => {
    await running('a');
    expect(await reclaim(caretaker, noConnections, { hostId: 'h2' })).toMatchObject({ removed: [], foreign: ['a'] });
    expect(host.remaining()).toHaveLength(3);
  });

  it('does not remove what is made while the control plane is asked', async () => {
    caretaker.assigned = async () => {
      await running('new');
      return [];
    };
    expect(await sweep()).toMatchObject({ removed: [] });
    expect(host.remaining()).toHaveLength(3);
  });

  it('goes on after a failure and tries again', async () => {
    await running('a');
    await running('b');
    host.faults.fail('disk.remove', new Error('busy'));
    const first = await sweep();
    expect([first.removed.length, first.failed.length]).toEqual([1, 1]);
    expect((await sweep()).removed).toHaveLength(1);
    expect(host.remaining()).toEqual([]);
  });

  it('keeps published builds', async () => {
    await running('b1');
    await steps.publishBuild({
      sandboxId: 'b1',
      epoch: 2,
      opId: 'build',
      vcpus: 1,
      memoryMb: 256,
      image: 'minimal',
      last: true,
    });
    expect(await sweep()).toMatchObject({ removed: ['b1'] });
    expect(host.remaining({ builds: true })).toEqual(['build b1']);
  });

  it('forgets the journal of a sandbox a day after its end, not before and never while it lives', async () => {
    await running('a');
    await running('live');
    answer = [known('live')];
    await sweep();
    expect(caretaker.journal.find('a')).toBeDefined();
    expect(await sweep({ now: Date.now() + DAY_MS + 1_000 })).toMatchObject({ forgotten: ['a'] });
    expect(caretaker.journal.entries().map(({ sandboxId }) => sandboxId)).toEqual(['live']);
  });
});
