import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeHost, PortMethod } from '../support/fake-host-ports.js';
import { failureOf, leftOf, newId, SPEC, TIMING, WorkflowRig } from '../support/workflow-rig.js';

/** Steps of create in order, and where in the host each can be made to fail. */
const STEPS: [step: string, port: PortMethod][] = [
  ['setUpNetwork', 'network.ensure'],
  ['attachDisk', 'disk.create'],
  ['startVm', 'hypervisor.start'],
  ['initGuest', 'guest.init'],
];
const EVERY_ATTEMPT = { times: TIMING.stepAttempts };

describe('CreateSandbox', () => {
  let rig: WorkflowRig;
  let host: FakeHost & { id: string };
  let id: string;

  beforeAll(async () => {
    rig = await WorkflowRig.open();
    host = await rig.addHost();
  });
  afterAll(() => rig.close());
  beforeEach(() => {
    host.faults.clear();
    id = newId();
  });

  function expectNothingLeft(): void {
    expect(leftOf(host, id)).toEqual([]);
    expect(host.violations).toEqual([]);
    expect(rig.control.row(id).state).toBe('error');
  }

  it('gives a running sandbox, says so in the row and closes the epoch on the host', async () => {
    const handle = await rig.create(id);
    await handle.result();
    expect(rig.control.row(id).state).toBe('running');
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `network ${id}`, `vm ${id} running`]);
    expect(host.epochOf(id)).toEqual({ epoch: 1, closed: true });
    const { historyLength } = await handle.describe();
    expect(historyLength).toBeLessThanOrEqual(40);
    await (await rig.destroy(id)).result();
  });

  it.each(STEPS)('undoes everything when %s fails for good', async (step, port) => {
    host.faults.fail(port, new DomainError('unsupported', 'planted'), EVERY_ATTEMPT);
    const failure = await failureOf(await rig.create(id));
    expect(failure).toMatchObject({ type: 'unsupported', message: expect.stringContaining('planted') });
    expectNothingLeft();
    expect(rig.control.row(id).failure).toMatchObject({ step, code: 'unsupported' });
    expect(rig.control.row(id).failure?.needsAttention).toBeUndefined();
  });

  it.each(STEPS)('undoes everything when %s did its work and its answer was lost every time', async (_step, port) => {
    host.faults.fail(port, new Error('answer lost'), { ...EVERY_ATTEMPT, when: 'after' });
    await failureOf(await rig.create(id));
    expectNothingLeft();
  });

  it.each(STEPS)('gets over one lost answer of %s without doing anything twice', async (_step, port) => {
    host.faults.fail(port, new Error('answer lost'), { times: 1, when: 'after' });
    await (await rig.create(id)).result();
    expect(rig.control.row(id).state).toBe('running');
    expect(host.violations).toEqual([]);
    await (await rig.destroy(id)).result();
    expect(leftOf(host, id)).toEqual([]);
  });

  it.each(STEPS)('undoes everything when the run is cancelled in %s', async (_step, port) => {
    const block = host.faults.block(port);
    const handle = await rig.create(id);
    await block.reached;
    await handle.cancel();
    await failureOf(handle);
    block.release();
    expectNothingLeft();
    expect((await handle.describe()).status.name).toBe('CANCELLED');
  });

  it.each(STEPS)('makes way for destroy in %s and keeps the lock', async (_step, port) => {
    const block = host.faults.block(port);
    await rig.create(id);
    await block.reached;
    const destroy = await rig.destroy(id);
    await destroy.result();
    block.release();
    expect(rig.control.row(id).state).toBe('stopped');
    expect(leftOf(host, id)).toEqual([]);
    expect(host.violations).toEqual([]);
  });

  it('waits for a step that does not hear its cancellation before it undoes it', async () => {
    const block = host.faults.block('hypervisor.start', { deaf: true });
    const handle = await rig.create(id);
    await block.reached;
    await handle.cancel();
    block.release();
    await failureOf(handle);
    expectNothingLeft();
  });

  it('times out a step that hangs, then undoes what it did when it came back late', async () => {
    const quick = { ...TIMING, longStepMs: 1_000, stepAttempts: 1, undoMs: 10_000 };
    const block = host.faults.block('hypervisor.start', { deaf: true });
    const input = { ...rig.input(id), timing: quick };
    const handle = await rig.start('create', Object.assign(input, { spec: SPEC }));
    await block.reached;
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    block.release();
    expect(await failureOf(handle)).toMatchObject({ type: 'timeout' });
    expectNothingLeft();
  });

  it('records what could not be undone, undoes the rest and keeps the original error', async () => {
    host.faults.fail('guest.init', new DomainError('unsupported', 'the original error'), EVERY_ATTEMPT);
    host.faults.fail('disk.remove', new DomainError('disk_full', 'the undo error'), { times: Infinity });
    expect(await failureOf(await rig.create(id))).toMatchObject({
      message: expect.stringContaining('the original error'),
    });
    expect(leftOf(host, id)).toEqual([`disk ${id}`]);
    const { state, failure } = rig.control.row(id);
    expect(state).toBe('error');
    expect(failure?.needsAttention).toEqual([expect.stringContaining('the undo error')]);
    host.faults.clear();
    await (await rig.destroy(id)).result();
    expect(leftOf(host, id)).toEqual([]);
  });

  it('asks the database until it answers', async () => {
    rig.control.outages.set('claimAndPlace', 2);
    rig.control.outages.set('settle', 2);
    await (await rig.create(id)).result();
    expect(rig.control.row(id).state).toBe('running');
    await (await rig.destroy(id)).result();
  });

  it('refuses a second operation while it is open', async () => {
    const block = host.faults.block('hypervisor.start');
    await rig.create(id);
    await block.reached;
    await expect(rig.begin('pause', id)).rejects.toThrow(/already/i);
    block.release();
    await (await rig.destroy(id)).result();
  });

  it('answers the accepted update with the epoch, and with the refusal when nothing can be placed', async () => {
    const input = { ...rig.input(id), spec: SPEC };
    expect(await rig.accepted('create', input)).toEqual({ opId: input.opId, kind: 'create', epoch: 1 });
    await (await rig.destroy(id)).result();
    const hosts = rig.control.hosts.splice(0);
    const refused = { ...rig.input(newId()), spec: SPEC };
    await expect(rig.accepted('create', refused)).rejects.toMatchObject({ cause: { type: 'no_hosts_available' } });
    rig.control.hosts.push(...hosts);
  });
});

describe('CreateSandbox with a host that is away', () => {
  let rig: WorkflowRig;
  beforeAll(async () => {
    rig = await WorkflowRig.open();
  });
  afterAll(() => rig.close());

  it('takes another host, and fails by name when there is none', async () => {
    await rig.addHost({ served: false });
    const second = await rig.addHost();
    const id = newId();
    await (await rig.create(id)).result();
    expect(rig.control.row(id)).toMatchObject({ state: 'running', hostId: second.id });
    rig.control.hosts.pop();
    const lost = newId();
    expect(await failureOf(await rig.create(lost))).toMatchObject({ type: 'no_hosts_available' });
    expect(rig.control.row(lost).state).toBe('error');
    await (await rig.destroy(id)).result();
  }, 90_000);
});
