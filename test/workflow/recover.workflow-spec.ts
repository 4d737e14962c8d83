import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeHost, PortMethod } from '../support/fake-host-ports.js';
import { failureOf, inParallel, leftOf, newId, SPEC, TIMING, until, WorkflowRig } from '../support/workflow-rig.js';

type Host = FakeHost & { id: string };

// Tests of many cases take longer than one case.
jest.setTimeout(120_000);

let rig: WorkflowRig;
let host: Host;
const FATAL = new DomainError('unsupported', 'planted');
const RUNS = (id: string) => [`disk ${id}`, `network ${id}`, `vm ${id} running`];

beforeAll(async () => {
  rig = await WorkflowRig.open();
  host = await rig.addHost();
});
afterAll(() => rig.close());
beforeEach(() => host.faults.clear());

/** The operation's run is ended from outside while it stands at `port`: it cannot say what became of its sandbox. */
async function cutOff(kind: 'pause' | 'resume', id: string, port: PortMethod, on: Host = host): Promise<void> {
  const block = on.faults.block(port);
  const handle = await rig.begin(kind, id);
  await block.reached;
  await handle.terminate('by the test');
  block.release();
}

function expectUntouched(id: string): void {
  expect(rig.control.row(id)).toMatchObject({ state: 'running' });
  expect(rig.control.row(id).memoryLost).toBeUndefined();
  expect(leftOf(host, id)).toEqual(RUNS(id));
  expect(host.vms.get(id)?.memory).toMatchObject({ notes: ['kept'], quiesced: false });
}

function expectBooted(id: string, reason: string, disk = ['kept']): void {
  expect(rig.control.row(id)).toMatchObject({
    state: 'running',
    memoryLost: { reason: expect.stringContaining(reason) },
  });
  expect(leftOf(host, id)).toEqual(RUNS(id));
  expect(host.vms.get(id)?.memory.notes).toEqual([]);
  expect(host.disks.get(id)).toMatchObject({ content: disk });
  expect(host.disks.get(id)?.point).toBeUndefined();
  expect(host.inits.filter((init) => init.id === id)).not.toHaveLength(0);
}

async function destroyAndCheck(id: string): Promise<void> {
  host.faults.clear();
  await (await rig.destroy(id)).result();
  expect(leftOf(host, id)).toEqual([]);
  expect(host.violations).toEqual([]);
}

describe('RecoverSandbox finds the VM alive', () => {
  it('and a sandbox that counted as missing runs on, untouched', async () => {
    const id = await rig.runningSandbox(host);
    rig.control.row(id).state = 'missing';
    const handle = await rig.recover(id);
    await handle.result();
    expectUntouched(id);
    expect(host.epochOf(id)).toEqual({ epoch: 2, closed: true });
    expect((await handle.describe()).historyLength).toBeLessThanOrEqual(40);
    await destroyAndCheck(id);
  });

  it.each<PortMethod>(['guest.quiesce', 'hypervisor.save'])(
    'and lets it run again after a pause that was cut off in %s',
    async (port) => {
      const id = await rig.runningSandbox(host);
      await cutOff('pause', id, port);
      await (await rig.recover(id)).result();
      expectUntouched(id);
      await destroyAndCheck(id);
    },
  );

  it('and deletes the memory that a pause saved but did not record', async () => {
    const id = await rig.runningSandbox(host);
    const pause = await rig.begin('pause', id);
    await pause.result();
    // As it was before the pause recorded its snapshot.
    Object.assign(rig.control.row(id), { state: 'pausing', generation: 0 });
    const [operation] = [...rig.control.operations.values()].filter((op) => op.sandboxId === id && op.epoch === 2);
    if (operation) operation.state = 'running';
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
    await (await rig.recover(id)).result();
    expectBooted(id, 'its VM was gone');
    await destroyAndCheck(id);
  });

  it('and it dies while it is looked at: it is booted like one that was gone', async () => {
    const id = await rig.runningSandbox(host);
    rig.control.row(id).state = 'missing';
    const block = host.faults.block('hypervisor.unfreeze');
    const handle = await rig.recover(id);
    await block.reached;
    host.crashVm(id);
    block.release();
    await handle.result();
    expectBooted(id, 'its VM was gone');
    await destroyAndCheck(id);
  });
});

describe('RecoverSandbox finds the VM gone', () => {
  it('and boots it from its disk, with the loss stated', async () => {
    const id = await rig.runningSandbox(host);
    rig.control.row(id).state = 'missing';
    host.losePower();
    const handle = await rig.recover(id);
    await handle.result();
    expectBooted(id, 'its VM was gone');
    expect(host.epochOf(id)).toEqual({ epoch: 2, closed: true });
    expect((await handle.describe()).historyLength).toBeLessThanOrEqual(60);
    await destroyAndCheck(id);
  });

  it('and waits for a decision where the policy says so, keeping the disk; a person decides', async () => {
    const id = await rig.runningSandbox(host, 'kept', { onMemoryLoss: 'error' });
    rig.control.row(id).state = 'missing';
    host.crashVm(id);
    expect(await failureOf(await rig.recover(id))).toMatchObject({ type: 'memory_lost' });
    expect(rig.control.row(id)).toMatchObject({ state: 'error', failure: { code: 'memory_lost' } });
    expect(leftOf(host, id)).toEqual([`disk ${id}`]);
    await (await rig.recover(id, { boot: true })).result();
    expectBooted(id, 'it was in error');
    await destroyAndCheck(id);
  });

  it('and keeps what the guest wrote after a resume that never forgot where it came from', async () => {
    const id = await rig.pausedSandbox(host);
    const block = host.faults.block('disk.commit');
    const handle = await rig.begin('resume', id);
    await block.reached;
    await handle.terminate('by the test');
    block.release();
    expect(rig.control.row(id).state).toBe('running');
    // The run is gone, its step may not be; what counts is that the point is still there.
    const disk = host.disk(id);
    disk.point = ['kept'];
    host.write(id, 'written after the resume');
    host.crashVm(id);
    rig.control.row(id).state = 'missing';
    await (await rig.recover(id)).result();
    expectBooted(id, 'its VM was gone', ['kept', 'written after the resume']);
    await destroyAndCheck(id);
  });

  it('and says so where the disk is gone too', async () => {
    const id = await rig.runningSandbox(host);
    rig.control.row(id).state = 'missing';
    host.losePower();
    host.disks.delete(id);
    expect(await failureOf(await rig.recover(id))).toMatchObject({ type: 'sandbox_lost' });
    expect(rig.control.row(id)).toMatchObject({ state: 'error', failure: { code: 'sandbox_lost' } });
    await destroyAndCheck(id);
  });
});

describe('RecoverSandbox after an operation that was ended from outside', () => {
  it.each<PortMethod>(['disk.attach', 'hypervisor.start', 'guest.init'])(
    'gives back the paused state of a resume that was cut off in %s',
    async (port) => {
      const id = await rig.pausedSandbox(host);
      await cutOff('resume', id, port);
      await (await rig.recover(id)).result();
      expect(rig.control.row(id).state).toBe('paused');
      expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
      expect(host.disks.get(id)?.content).toEqual(['kept']);
      await (await rig.begin('resume', id)).result();
      expectUntouched(id);
      await destroyAndCheck(id);
    },
  );

  it('boots the disk as it was before a resume whose memory is gone', async () => {
    const id = await rig.pausedSandbox(host);
    await cutOff('resume', id, 'guest.init');
    host.write(id, 'written by a resume that nobody saw');
    host.saved.delete(id);
    await (await rig.recover(id)).result();
    expectBooted(id, 'memory snapshot 2');
    await destroyAndCheck(id);
  });

  it.each<PortMethod>(['hypervisor.kill', 'disk.detach', 'network.remove'])(
    'finishes a pause that had passed its commit point in %s',
    async (port) => {
      const id = await rig.runningSandbox(host);
      await cutOff('pause', id, port);
      await (await rig.recover(id)).result();
      expect(rig.control.row(id).state).toBe('paused');
      expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
      await (await rig.begin('resume', id)).result();
      expectUntouched(id);
      await destroyAndCheck(id);
    },
  );

  it.each<PortMethod>(['network.ensure', 'hypervisor.start', 'guest.init'])(
    'leaves nothing of a create that was cut off in %s',
    async (port) => {
      const id = newId();
      const block = host.faults.block(port);
      const handle = await rig.create(id);
      await block.reached;
      await handle.terminate('by the test');
      block.release();
      expect(await failureOf(await rig.recover(id))).toMatchObject({ type: 'sandbox_lost' });
      expect(rig.control.row(id)).toMatchObject({ state: 'error', failure: { code: 'sandbox_lost' } });
      expect(leftOf(host, id)).toEqual([]);
      await destroyAndCheck(id);
    },
  );

  it('goes on from what an earlier recovery found that was ended too', async () => {
    const id = await rig.pausedSandbox(host);
    await cutOff('resume', id, 'guest.init');
    const block = host.faults.block('disk.rollback');
    const first = await rig.recover(id);
    await block.reached;
    await first.terminate('by the test');
    block.release();
    await (await rig.recover(id)).result();
    expect(rig.control.row(id).state).toBe('paused');
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
    await destroyAndCheck(id);
  });

  it('tells a guest that an earlier recovery was booting who it is, and that its memory may be lost', async () => {
    const id = await rig.runningSandbox(host);
    rig.control.row(id).state = 'missing';
    host.crashVm(id);
    const block = host.faults.block('guest.init');
    const first = await rig.recover(id);
    await block.reached;
    await first.terminate('by the test');
    const inits = host.inits.filter((init) => init.id === id).length;
    const second = await rig.recover(id);
    const calls = () => host.methodsOf(id).filter((method) => method === 'guest.init').length;
    // The create's, the first recovery's, which its successor ends, and the second one's.
    await until('the second recovery is as far', () => calls() === 3);
    block.release();
    await second.result();
    expect(rig.control.row(id)).toMatchObject({ state: 'running', memoryLost: expect.anything() });
    expect(host.inits.filter((init) => init.id === id)).toHaveLength(inits + 1);
    await destroyAndCheck(id);
  });
});

describe('RecoverSandbox is asked for', () => {
  it('and gives up the saved memory of a paused sandbox only when told to', async () => {
    const id = await rig.pausedSandbox(host);
    expect(await failureOf(await rig.recover(id, { boot: true }))).toMatchObject({ type: 'state_conflict' });
    expect(rig.control.row(id).state).toBe('paused');
    await (await rig.recover(id, { boot: true, discardMemory: true })).result();
    expectBooted(id, 'given up on request');
    await destroyAndCheck(id);
  });

  it('and leaves a sandbox alone that has moved on since', async () => {
    const id = await rig.runningSandbox(host);
    expect(await failureOf(await rig.recover(id, { ifEpoch: 7 }))).toMatchObject({ type: 'state_conflict' });
    expectUntouched(id);
    await destroyAndCheck(id);
  });
});

const BOOT: PortMethod[] = ['network.ensure', 'disk.attach', 'hypervisor.start', 'guest.init'];

/** A host of its own for each case, with a sandbox whose VM is gone. */
async function crashed(): Promise<{ on: Host; id: string }> {
  const on = await rig.addHost();
  const id = await rig.runningSandbox(on);
  rig.control.row(id).state = 'missing';
  on.crashVm(id);
  return { on, id };
}

describe('a recovery that boots', () => {
  it('keeps the disk and nothing else when a step fails, and can be repeated', () =>
    inParallel(BOOT, async (port) => {
      const { on, id } = await crashed();
      on.faults.fail(port, FATAL, { times: TIMING.stepAttempts });
      expect(await failureOf(await rig.recover(id))).toMatchObject({ type: 'unsupported' });
      expect(rig.control.row(id).state).toBe('error');
      expect(leftOf(on, id)).toEqual([`disk ${id}`]);
      expect(on.disks.get(id)?.content).toEqual(['kept']);
      on.faults.clear();
      await (await rig.recover(id, { boot: true })).result();
      expect(rig.control.row(id).state).toBe('running');
      expect(on.violations).toEqual([]);
    }));

  it('leaves the sandbox missing when it is cancelled: nobody knows more than before', () =>
    inParallel(BOOT, async (port) => {
      const { on, id } = await crashed();
      const block = on.faults.block(port);
      const handle = await rig.recover(id);
      await block.reached;
      await handle.cancel();
      await failureOf(handle);
      block.release();
      expect(rig.control.row(id).state).toBe('missing');
      expect(leftOf(on, id)).toEqual([`disk ${id}`]);
      expect(on.violations).toEqual([]);
    }));

  it('makes way for destroy in every step', () =>
    inParallel(
      ['hypervisor.status', 'disk.detach', ...BOOT, 'disk.commit', 'snapshots.delete'] as const,
      async (port) => {
        const { on, id } = await crashed();
        await expectWayMade(on, id, port);
      },
    ));
});

describe('any other recovery makes way for destroy', () => {
  it('in every step of letting a VM go on', () =>
    inParallel(['hypervisor.unfreeze', 'guest.unquiesce', 'snapshots.delete'] as const, async (port) => {
      const on = await rig.addHost();
      const id = await rig.runningSandbox(on);
      await cutOff('pause', id, 'hypervisor.save', on);
      await expectWayMade(on, id, port);
    }));

  it('in every step of finishing a pause', () =>
    inParallel(['hypervisor.kill', 'disk.detach', 'network.remove'] as const, async (port) => {
      const on = await rig.addHost();
      const id = await rig.runningSandbox(on);
      await cutOff('pause', id, 'hypervisor.kill', on);
      await expectWayMade(on, id, port);
    }));

  it('in every step of taking a create down', () =>
    inParallel(['hypervisor.kill', 'disk.remove', 'network.remove', 'snapshots.deleteAll'] as const, async (port) => {
      const on = await rig.addHost();
      const id = newId();
      rig.control.placed.set(id, on.id);
      const block = on.faults.block('guest.init');
      const create = await rig.create(id);
      await block.reached;
      await create.terminate('by the test');
      block.release();
      await expectWayMade(on, id, port);
    }));
});

async function expectWayMade(on: Host, id: string, port: PortMethod): Promise<void> {
  const block = on.faults.block(port);
  await rig.recover(id);
  await block.reached;
  const destroy = await rig.destroy(id);
  block.release();
  await destroy.result();
  expect(rig.control.row(id).state).toBe('stopped');
  expect(leftOf(on, id)).toEqual([]);
  expect(on.violations).toEqual([]);
}

describe('a host that is away', () => {
  it('leaves the sandbox missing, and it is found when the host is back', async () => {
    const on = await rig.addHost({ served: false });
    const id = newId();
    rig.control.sandboxes.set(id, { ...rowOn(on.id), state: 'missing' });
    const timing = { ...TIMING, hostPickupMs: 300 };
    expect(await failureOf(await rig.recover(id, { timing }))).toMatchObject({ type: 'host_unavailable' });
    expect(rig.control.row(id).state).toBe('missing');
    const stop = await rig.serve(on);
    expect(await failureOf(await rig.recover(id))).toMatchObject({ type: 'sandbox_lost' });
    await stop();
  });

  it('leaves a resume that it could not even undo missing, and its recovery gives back the paused state', async () => {
    const on = await rig.addHost({ served: false });
    const stop = await rig.serve(on);
    const id = await rig.pausedSandbox(on);
    await stop();
    const input = { ...rig.input(id), timing: { ...TIMING, hostPickupMs: 300, undoMs: 500 } };
    expect(await failureOf(await rig.start('resume', input))).toMatchObject({ type: 'host_unavailable' });
    expect(rig.control.row(id).state).toBe('missing');
    expect(rig.control.row(id).failure?.needsAttention).toHaveLength(2);
    await rig.serve(on);
    await (await rig.recover(id)).result();
    expect(rig.control.row(id).state).toBe('paused');
    expect(leftOf(on, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
    expect(on.violations).toEqual([]);
  });

  it('leaves a pause whose VM is gone missing, and its recovery boots it', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.save');
    const handle = await rig.begin('pause', id);
    await block.reached;
    host.crashVm(id);
    block.release();
    expect(await failureOf(handle)).toMatchObject({ type: 'memory_lost' });
    await until('missing', () => rig.control.row(id).state === 'missing');
    await (await rig.recover(id)).result();
    expectBooted(id, 'its VM was gone');
    await destroyAndCheck(id);
  });
});

function rowOn(hostId: string) {
  return { epoch: 4, hostId, spec: SPEC, generation: 0, expiresAt: null };
}
