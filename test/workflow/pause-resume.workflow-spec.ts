import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import { PROGRESS_QUERY, type Progress } from '../../workflows/contract/operations.js';
import type { FakeHost, PortMethod } from '../support/fake-host-ports.js';
import { failureOf, leftOf, SPEC, TIMING, until, WorkflowRig } from '../support/workflow-rig.js';

const BEFORE_COMMIT: [step: string, port: PortMethod][] = [
  ['quiesceGuest', 'guest.quiesce'],
  ['snapshotVm', 'hypervisor.freeze'],
  ['snapshotVm', 'hypervisor.save'],
  ['snapshotVm', 'snapshots.save'],
];
const AFTER_COMMIT: [step: string, port: PortMethod][] = [
  ['killVm', 'hypervisor.kill'],
  ['detachDisk', 'disk.detach'],
  ['releaseNetwork', 'network.remove'],
];
const RESUME: [step: string, port: PortMethod][] = [
  ['setUpNetwork', 'network.ensure'],
  ['attachDisk', 'disk.attach'],
  ['startVm', 'hypervisor.start'],
  ['initGuest', 'guest.init'],
];
const EVERY_ATTEMPT = { times: TIMING.stepAttempts };
const FATAL = new DomainError('unsupported', 'planted');

let rig: WorkflowRig;
let host: FakeHost & { id: string };
let id: string;

beforeAll(async () => {
  rig = await WorkflowRig.open();
  host = await rig.addHost();
});
afterAll(() => rig.close());

async function destroyAndCheck(): Promise<void> {
  host.faults.clear();
  await (await rig.destroy(id)).result();
  expect(leftOf(host, id)).toEqual([]);
  expect(host.violations).toEqual([]);
}

function expectUsable(): void {
  expect(rig.control.row(id).state).toBe('running');
  expect(leftOf(host, id)).toEqual([`disk ${id}`, `network ${id}`, `vm ${id} running`]);
  expect(host.vms.get(id)?.memory).toMatchObject({ notes: ['kept'], quiesced: false });
}

describe('PauseSandbox', () => {
  beforeEach(async () => {
    host.faults.clear();
    id = await rig.runningSandbox(host);
  });

  it('leaves only files, and at most 40 events', async () => {
    const handle = await rig.begin('pause', id);
    await handle.result();
    expect(rig.control.row(id).state).toBe('paused');
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
    expect((await handle.describe()).historyLength).toBeLessThanOrEqual(40);
    await destroyAndCheck();
  });

  it.each(BEFORE_COMMIT)('leaves the sandbox running and usable when %s fails (%s)', async (step, port) => {
    host.faults.fail(port, FATAL, EVERY_ATTEMPT);
    expect(await failureOf(await rig.begin('pause', id))).toMatchObject({ type: 'unsupported' });
    expectUsable();
    expect(rig.control.row(id).failure).toMatchObject({ step });
    host.faults.clear();
    await (await rig.begin('pause', id)).result();
    expect(rig.control.row(id).state).toBe('paused');
    await destroyAndCheck();
  });

  it.each(BEFORE_COMMIT)(
    'leaves the sandbox running and usable when the answers of %s are lost (%s)',
    async (_step, port) => {
      host.faults.fail(port, new Error('answer lost'), { ...EVERY_ATTEMPT, when: 'after' });
      const handle = await rig.begin('pause', id);
      // The journal may turn a repeated attempt into a success; both ends are true ones.
      await handle.result().catch(() => undefined);
      if (rig.control.row(id).state === 'running') expectUsable();
      else expect(rig.control.row(id).state).toBe('paused');
      await destroyAndCheck();
    },
  );

  it.each(BEFORE_COMMIT)(
    'leaves the sandbox running and usable when it is cancelled in %s (%s)',
    async (_step, port) => {
      const block = host.faults.block(port);
      const handle = await rig.begin('pause', id);
      await block.reached;
      await handle.cancel();
      await failureOf(handle);
      block.release();
      expectUsable();
      await destroyAndCheck();
    },
  );

  it('lets the VM run again when the snapshot was complete but could not be recorded on the host', async () => {
    const block = host.faults.block('hypervisor.save');
    const handle = await rig.begin('pause', id);
    await block.reached;
    host.faults.fail('journal.done', FATAL);
    block.release();
    expect(await failureOf(handle)).toMatchObject({ type: 'unsupported' });
    expectUsable();
    await destroyAndCheck();
  });

  it.each(AFTER_COMMIT)(
    'goes on until %s succeeds, even past failures that no retry mends by itself',
    async (_step, port) => {
      host.faults.fail(port, FATAL, { times: 2 });
      host.faults.fail(port, new Error('busy'), { times: 2 });
      await (await rig.begin('pause', id)).result();
      expect(rig.control.row(id).state).toBe('paused');
      expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
      await destroyAndCheck();
    },
  );

  it.each(AFTER_COMMIT)('does not turn back when it is cancelled in %s', async (_step, port) => {
    const block = host.faults.block(port);
    const handle = await rig.begin('pause', id);
    await block.reached;
    await handle.cancel();
    block.release();
    await handle.result();
    expect(rig.control.row(id).state).toBe('paused');
    await destroyAndCheck();
  });

  it.each([...BEFORE_COMMIT, ...AFTER_COMMIT])('makes way for destroy in %s (%s)', async (_step, port) => {
    const block = host.faults.block(port);
    await rig.begin('pause', id);
    await block.reached;
    const destroy = await rig.destroy(id);
    // A destroy that takes over passes the same place itself.
    block.release();
    await destroy.result();
    expect(rig.control.row(id).state).toBe('stopped');
    expect(leftOf(host, id)).toEqual([]);
    expect(host.violations).toEqual([]);
  });

  it('is refused by name when the sandbox does not run', async () => {
    await (await rig.begin('pause', id)).result();
    expect(await failureOf(await rig.begin('pause', id))).toMatchObject({ type: 'state_conflict' });
    expect(rig.control.row(id).state).toBe('paused');
    await destroyAndCheck();
  });

  it('changes nothing when it was fenced out', async () => {
    const block = host.faults.block('guest.quiesce');
    const handle = await rig.begin('pause', id);
    await block.reached;
    rig.control.row(id).epoch += 1;
    const before = host.calls.length;
    host.faults.fail('guest.quiesce', new DomainError('stale_operation', 'a newer epoch'));
    block.release();
    expect(await failureOf(handle)).toMatchObject({ type: 'stale_operation' });
    const undone = host.calls.slice(before).map(({ method }) => method);
    expect(undone).not.toContain('hypervisor.unfreeze');
    expect(undone).not.toContain('snapshots.delete');
    rig.control.row(id).state = 'running';
    await destroyAndCheck();
  });
});

describe('ResumeSandbox', () => {
  beforeEach(async () => {
    host.faults.clear();
    id = await rig.pausedSandbox(host);
  });

  function expectStillPaused(): void {
    expect(rig.control.row(id).state).toBe('paused');
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
    expect(host.violations).toEqual([]);
  }

  it('goes on with its memory, deletes the old snapshot, at most 40 events', async () => {
    const handle = await rig.begin('resume', id);
    await handle.result();
    expectUsable();
    expect((await handle.describe()).historyLength).toBeLessThanOrEqual(40);
    await destroyAndCheck();
  });

  it.each(RESUME)('leaves the paused state untouched when %s fails (%s)', async (step, port) => {
    host.faults.fail(port, FATAL, EVERY_ATTEMPT);
    expect(await failureOf(await rig.begin('resume', id))).toMatchObject({ type: 'unsupported' });
    expectStillPaused();
    expect(rig.control.row(id).failure).toMatchObject({ step });
    host.faults.clear();
    await (await rig.begin('resume', id)).result();
    expectUsable();
    await destroyAndCheck();
  });

  it.each(RESUME)('leaves the paused state untouched when it is cancelled in %s (%s)', async (_step, port) => {
    const block = host.faults.block(port);
    const handle = await rig.begin('resume', id);
    await block.reached;
    await handle.cancel();
    await failureOf(handle);
    block.release();
    expectStillPaused();
    await destroyAndCheck();
  });

  it.each(RESUME)('makes way for destroy in %s (%s)', async (_step, port) => {
    const block = host.faults.block(port);
    await rig.begin('resume', id);
    await block.reached;
    const destroy = await rig.destroy(id);
    await destroy.result();
    block.release();
    expect(rig.control.row(id).state).toBe('stopped');
    expect(leftOf(host, id)).toEqual([]);
  });

  it('rolls the disk back to what the memory knows when the guest had already run', async () => {
    const block = host.faults.block('guest.init');
    const handle = await rig.begin('resume', id);
    await block.reached;
    host.write(id, 'written by a resume that failed');
    host.faults.fail('guest.init', FATAL, EVERY_ATTEMPT);
    block.release();
    await failureOf(handle);
    expectStillPaused();
    expect(host.disks.get(id)?.content).toEqual(['kept']);
    await destroyAndCheck();
  });

  it('deletes the old memory only behind the commit point, and until it is deleted', async () => {
    host.faults.fail('disk.commit', new Error('busy'), { times: 3 });
    const handle = await rig.begin('resume', id);
    await handle.result();
    expectUsable();
    await destroyAndCheck();
  });
});

describe('a host that is away', () => {
  it('ends a resume by name, undoes when it is back, and the next one works', async () => {
    const away = await WorkflowRig.open();
    const machine = await away.addHost({ served: false });
    const sandboxId = `x${Date.now().toString(36)}`;
    away.control.sandboxes.set(sandboxId, {
      state: 'paused',
      epoch: 4,
      hostId: machine.id,
      spec: SPEC,
      generation: 4,
      expiresAt: null,
    });
    const input = { ...away.input(sandboxId), timing: { ...TIMING, hostPickupMs: 500, undoMs: 20_000 } };
    const handle = await away.start('resume', input);
    await until('it turns back', async () => (await handle.query<Progress>(PROGRESS_QUERY)).undoing);
    expect(away.control.row(sandboxId).state).toBe('resuming');
    await away.serve(machine);
    expect(await failureOf(handle)).toMatchObject({ type: 'host_unavailable' });
    expect(away.control.row(sandboxId).state).toBe('paused');
    await away.close();
  });
});
