import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import { PROGRESS_QUERY, type Progress } from '../../workflows/contract/operations.js';
import type { FakeHost } from '../support/fake-host-ports.js';
import { failureOf, leftOf, TIMING, until, WorkflowRig } from '../support/workflow-rig.js';

const BEFORE: NetworkPolicy = { egress: true, txMegabitsPerSecond: 5 };
const AFTER: NetworkPolicy = { egress: false, allow: [{ cidr: '10.0.0.0/8', ports: '443', protocol: 'tcp' }] };
const FATAL = new DomainError('unsupported', 'planted');
const EVERY_ATTEMPT = { times: TIMING.stepAttempts };

let rig: WorkflowRig;
let host: FakeHost & { id: string };
let id: string;

const onHost = () => host.networks.get(id)?.policy;
const inRow = () => rig.control.row(id).spec.network;
const methods = (from: number) => host.calls.slice(from).map(({ method }) => method);

beforeAll(async () => {
  rig = await WorkflowRig.open();
  host = await rig.addHost();
});
afterAll(() => rig.close());

async function destroyAndCheck(): Promise<void> {
  host.faults.clear();
  await (await rig.destroy(id)).result();
  expectGone();
}

function expectGone(): void {
  expect(rig.control.row(id).state).toBe('stopped');
  expect(leftOf(host, id)).toEqual([]);
  expect(host.violations).toEqual([]);
}

/** It runs as before, with the policy that it had. */
function expectUnchanged(): void {
  expect(rig.control.row(id).state).toBe('running');
  expect([onHost(), inRow()]).toEqual([BEFORE, BEFORE]);
  expect(host.vms.get(id)?.memory).toMatchObject({ notes: ['kept'], quiesced: false });
}

describe('UpdateNetwork', () => {
  beforeEach(async () => {
    host.faults.clear();
    id = await rig.runningSandbox(host, 'kept', { network: BEFORE });
  });

  it('applies the policy of a create, and then another one, while the sandbox runs; at most 30 events', async () => {
    expect(onHost()).toEqual(BEFORE);
    const block = host.faults.block('network.apply');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    expect(rig.control.row(id)).toMatchObject({ state: 'running', spec: { network: BEFORE } });
    block.release();
    await handle.result();
    expect(rig.control.row(id).state).toBe('running');
    expect([onHost(), inRow()]).toEqual([AFTER, AFTER]);
    expect((await handle.describe()).historyLength).toBeLessThanOrEqual(30);
    await destroyAndCheck();
  });

  it('holds over pause and resume', async () => {
    await (await rig.changeNetwork(id, AFTER)).result();
    await (await rig.begin('pause', id)).result();
    expect(onHost()).toBeUndefined();
    await (await rig.begin('resume', id)).result();
    expect(onHost()).toEqual(AFTER);
    await destroyAndCheck();
  });

  it('of a paused sandbox touches no host, and holds from its resume', async () => {
    await (await rig.begin('pause', id)).result();
    const from = host.calls.length;
    await (await rig.changeNetwork(id, AFTER)).result();
    expect(methods(from)).toEqual([]);
    expect([rig.control.row(id).state, inRow()]).toEqual(['paused', AFTER]);
    await (await rig.begin('resume', id)).result();
    expect(onHost()).toEqual(AFTER);
    await destroyAndCheck();
  });

  it('leaves the sandbox running with the policy that it had when the host cannot apply the new one', async () => {
    host.faults.fail('network.apply', FATAL);
    expect(await failureOf(await rig.changeNetwork(id, AFTER))).toMatchObject({ type: 'unsupported' });
    expectUnchanged();
    expect(rig.control.row(id).failure).toMatchObject({ step: 'applyNetworkPolicy' });
    expect(rig.control.row(id).failure?.needsAttention).toBeUndefined();
    await (await rig.changeNetwork(id, AFTER)).result();
    expect([onHost(), inRow()]).toEqual([AFTER, AFTER]);
    await destroyAndCheck();
  });

  it('takes back what was applied where its answers were lost', async () => {
    host.faults.fail('network.apply', new Error('answer lost'), { ...EVERY_ATTEMPT, when: 'after' });
    await failureOf(await rig.changeNetwork(id, AFTER));
    expectUnchanged();
    await destroyAndCheck();
  });

  it('is told, and leaves the sandbox to its caller, where the undo fails too', async () => {
    const block = host.faults.block('network.apply');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    host.faults.fail('network.apply', FATAL, { times: 2 });
    block.release();
    expect(await failureOf(handle)).toMatchObject({ type: 'unsupported' });
    expect(rig.control.row(id)).toMatchObject({ state: 'running', spec: { network: BEFORE } });
    expect(rig.control.row(id).failure?.needsAttention).toEqual([expect.stringMatching(/^policy: .*planted/)]);
    await destroyAndCheck();
  });

  it('is taken back when it is cancelled while it is applied', async () => {
    const block = host.faults.block('network.apply');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    await handle.cancel();
    await until('it turns back', async () => (await handle.query<Progress>(PROGRESS_QUERY)).undoing);
    block.release();
    await failureOf(handle);
    expectUnchanged();
    await destroyAndCheck();
  });

  it('is past its commit point once the row has the policy: cancelling it changes nothing', async () => {
    const block = host.faults.block('journal.done');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    block.release();
    const closing = host.faults.block('journal.begin');
    await closing.reached;
    expect(await handle.query<Progress>(PROGRESS_QUERY)).toMatchObject({ committed: true, undoing: false });
    await handle.cancel();
    closing.release();
    await handle.result();
    expect([onHost(), inRow()]).toEqual([AFTER, AFTER]);
    await destroyAndCheck();
  });

  it('makes way for destroy while it is applied', async () => {
    const block = host.faults.block('network.apply');
    await rig.changeNetwork(id, AFTER);
    await block.reached;
    const destroy = await rig.destroy(id);
    block.release();
    await destroy.result();
    expectGone();
  });

  it('makes way for destroy while it is taken back', async () => {
    host.faults.fail('network.apply', FATAL);
    const undoing = host.faults.block('network.find');
    await rig.changeNetwork(id, AFTER);
    await undoing.reached;
    const destroy = await rig.destroy(id);
    undoing.release();
    await destroy.result();
    expectGone();
  });

  it('keeps others out while it is under way, and is refused in other states by name', async () => {
    const block = host.faults.block('network.apply');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    await expect(rig.begin('pause', id)).rejects.toThrow(/already/i);
    await expect(rig.changeNetwork(id, BEFORE)).rejects.toThrow(/already/i);
    block.release();
    await handle.result();
    rig.control.row(id).state = 'error';
    expect(await failureOf(await rig.changeNetwork(id, BEFORE))).toMatchObject({ type: 'state_conflict' });
    expect(onHost()).toEqual(AFTER);
    await destroyAndCheck();
  });

  it('changes nothing when it was fenced out', async () => {
    const block = host.faults.block('network.apply');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    rig.control.row(id).epoch += 1;
    const from = host.calls.length;
    host.faults.fail('network.apply', new DomainError('stale_operation', 'a newer epoch'));
    block.release();
    expect(await failureOf(handle)).toMatchObject({ type: 'stale_operation' });
    expect(methods(from)).not.toContain('network.find');
    expect(inRow()).toEqual(BEFORE);
    await destroyAndCheck();
  });

  it('takes nothing back where there is no network any more, as after a restart of the machine', async () => {
    const block = host.faults.block('network.apply');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    host.vms.delete(id);
    host.networks.delete(id);
    block.release();
    expect(await failureOf(handle)).toMatchObject({ type: 'not_found' });
    expect(rig.control.row(id)).toMatchObject({ state: 'running', failure: { code: 'not_found' } });
    expect(rig.control.row(id).failure?.needsAttention).toBeUndefined();
    await destroyAndCheck();
  });
});

describe('a host that is away', () => {
  it('ends it by name, and the policy before holds when the host is back', async () => {
    const away = await WorkflowRig.open();
    const machine = await away.addHost({ served: false });
    const stop = await away.serve(machine);
    const sandboxId = await away.runningSandbox(machine, 'kept', { network: BEFORE });
    await stop();
    const timing = { ...TIMING, hostPickupMs: 500, undoMs: 20_000 };
    const input = { ...away.input(sandboxId), network: AFTER, timing };
    const handle = await away.start('network', input);
    await until('it turns back', async () => (await handle.query<Progress>(PROGRESS_QUERY)).undoing);
    await away.serve(machine);
    expect(await failureOf(handle)).toMatchObject({ type: 'host_unavailable' });
    expect(away.control.row(sandboxId)).toMatchObject({ state: 'running', spec: { network: BEFORE } });
    expect(machine.networks.get(sandboxId)?.policy).toEqual(BEFORE);
    await away.close();
  });
});

describe('a recovery of one whose change was cut off', () => {
  beforeEach(async () => {
    host.faults.clear();
    id = await rig.runningSandbox(host, 'kept', { network: BEFORE });
  });

  it('applies the policy that the row has to the guest that runs on', async () => {
    const handle = await rig.changeNetwork(id, AFTER);
    await until('it is applied', () => onHost()?.egress === false);
    await handle.result();
    // As if it had been ended between applying and telling.
    rig.control.row(id).spec = { ...rig.control.row(id).spec, network: BEFORE };
    for (const op of rig.control.operations.values()) {
      if (op.sandboxId === id && op.kind === 'network') op.state = 'running';
    }
    await (await rig.recover(id)).result();
    expectUnchanged();
    await destroyAndCheck();
  });

  it('boots from the disk with that policy where its memory is gone', async () => {
    const block = host.faults.block('network.apply');
    const handle = await rig.changeNetwork(id, AFTER);
    await block.reached;
    await handle.terminate('by the test');
    block.release();
    host.losePower();
    await (await rig.recover(id)).result();
    expect(rig.control.row(id)).toMatchObject({ state: 'running', memoryLost: { reason: expect.any(String) } });
    expect([onHost(), inRow()]).toEqual([BEFORE, BEFORE]);
    await destroyAndCheck();
  });
});
