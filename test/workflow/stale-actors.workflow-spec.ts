import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeHost, PortMethod } from '../support/fake-host-ports.js';
import {
  failureOf,
  inParallel,
  leftOf,
  newId,
  TIMING,
  until,
  WorkflowRig,
  type Handle,
} from '../support/workflow-rig.js';

type Host = FakeHost & { id: string };

const FATAL = new DomainError('unsupported', 'planted');

// Tests of many cases take longer than one case.
jest.setTimeout(120_000);

let rig: WorkflowRig;

beforeAll(async () => {
  rig = await WorkflowRig.open();
});
afterAll(() => rig.close());

/** Everything a machine has, to be compared with later. */
function stateOf(host: Host): string {
  const { vms, networks, disks, saved, published } = host;
  return (
    JSON.stringify([vms, networks, disks, published].map((map) => [...map])) + host.remaining().join() + saved.size
  );
}

describe('a step that stalls past its heartbeat timeout and then goes on', () => {
  /** A process that takes one task, tells of itself once and then stands still, beside the one that replaces it. */
  async function stalledIn(kind: 'pause' | 'resume', port: PortMethod) {
    const host = await rig.addHost({ served: false });
    const stopHealthy = await rig.serve(host);
    const id = kind === 'pause' ? await rig.runningSandbox(host) : await rig.pausedSandbox(host);
    await stopHealthy();
    const stopStalled = await rig.serve(host, { heartbeatMs: 60_000, slots: 1, apart: true });
    const block = host.faults.block(port, { deaf: true, once: true });
    const timing = { ...TIMING, heartbeatMs: 1_000, stepAttempts: 3 };
    const handle = await rig.start(kind, { ...rig.input(id), timing });
    await block.reached;
    await rig.serve(host);
    await handle.result();
    return { host, id, block, stopStalled };
  }

  it(
    'changes nothing once another attempt has done it',
    () =>
      inParallel(
        [
          ['pause', 'guest.quiesce'],
          ['pause', 'hypervisor.save'],
          ['pause', 'hypervisor.kill'],
          ['pause', 'disk.detach'],
          ['pause', 'network.remove'],
          ['resume', 'network.ensure'],
          ['resume', 'hypervisor.start'],
          ['resume', 'guest.init'],
        ] as const,
        async ([kind, port]) => {
          const { host, id, block, stopStalled } = await stalledIn(kind, port);
          const before = stateOf(host);
          const calls = host.calls.length;
          block.release();
          // It goes on as far as to record its result; its worker must not be stopped before, which would cancel it.
          await until('it has gone on', () => host.calls.length > calls);
          await stopStalled();
          expect(host.violations).toEqual([]);
          expect(stateOf(host)).toBe(before);
          expect(rig.control.row(id).state).toBe(kind === 'pause' ? 'paused' : 'running');
        },
      ),
    120_000,
  );

  it('is refused by the host once a newer operation has begun', () =>
    inParallel(['pause', 'resume'] as const, async (kind) => {
      const { host, id, block, stopStalled } = await stalledIn(kind, 'journal.begin');
      await (await rig.destroy(id)).result();
      expect(leftOf(host, id)).toEqual([]);
      const calls = host.calls.length;
      block.release();
      await stopStalled();
      expect(host.violations).toEqual([]);
      // Refused at the journal: nothing behind it was called.
      expect(host.calls.slice(calls)).toEqual([]);
      expect(leftOf(host, id)).toEqual([]);
    }));
});

describe('a run that is reset', () => {
  let host: Host;
  let id: string;

  beforeEach(async () => {
    host = await rig.addHost();
    id = await rig.runningSandbox(host);
  });

  /** To the workflow task that scheduled `activity`, or to the first one. */
  async function reset(handle: Handle, activity?: string): Promise<Handle> {
    const runId = handle.firstExecutionRunId ?? '';
    const { events } = await rig.client.workflow.getHandle(handle.workflowId, runId).fetchHistory();
    const scheduled = (events ?? [])
      .map(({ activityTaskScheduledEventAttributes }) => activityTaskScheduledEventAttributes)
      .find((attributes) => activity !== undefined && attributes?.activityType?.name === activity);
    const first = (events ?? []).find((event) => event.workflowTaskCompletedEventAttributes);
    const to = scheduled?.workflowTaskCompletedEventId ?? first?.eventId;
    if (!to) throw new Error('there is nothing to reset to');
    const answer = await rig.client.workflowService.resetWorkflowExecution({
      namespace: 'default',
      workflowExecution: { workflowId: handle.workflowId, runId },
      reason: 'by the test',
      requestId: newId(),
      workflowTaskFinishEventId: to,
    });
    return rig.client.workflow.getHandle(handle.workflowId, answer.runId);
  }

  async function failedPause(): Promise<Handle> {
    host.faults.fail('hypervisor.save', FATAL, { times: TIMING.stepAttempts });
    const handle = await rig.begin('pause', id);
    expect(await failureOf(handle)).toMatchObject({ type: 'unsupported' });
    host.faults.clear();
    return handle;
  }

  /** What was done on the machine while `work` went on, the asking of its journal apart. */
  async function touchedBy(work: () => Promise<unknown>): Promise<PortMethod[]> {
    const calls = host.calls.length;
    const before = stateOf(host);
    await work();
    expect(stateOf(host)).toBe(before);
    expect(rig.control.row(id).state).toBe('running');
    const methods = host.calls.slice(calls).map(({ method }) => method);
    return methods.filter((method) => !method.startsWith('journal.'));
  }

  it('to a point in the middle of a failed pause dies as stale and changes nothing', async () => {
    const handle = await failedPause();
    const reach = async () => failureOf(await reset(handle, 'snapshotVm'));
    expect(await touchedBy(async () => expect(await reach()).toMatchObject({ type: 'stale_operation' }))).toEqual([]);
  });

  it('to the beginning of its undo finds everything undone', async () => {
    const handle = await failedPause();
    expect(await touchedBy(async () => failureOf(await reset(handle, 'unfreezeVm')))).toEqual([]);
  });

  it('to its middle dies as stale also when its host worker was restarted since', async () => {
    const machine = await rig.addHost({ served: false });
    const stop = await rig.serve(machine);
    host = machine;
    id = await rig.runningSandbox(machine);
    const handle = await failedPause();
    await stop();
    await rig.serve(machine);
    const before = stateOf(machine);
    expect(await failureOf(await reset(handle, 'snapshotVm'))).toMatchObject({ type: 'stale_operation' });
    expect(stateOf(machine)).toBe(before);
  });

  it('dies as stale when newer operations have begun since', async () => {
    const handle = await failedPause();
    await (await rig.begin('pause', id)).result();
    await (await rig.begin('resume', id)).result();
    const before = stateOf(host);
    expect(await failureOf(await reset(handle, 'snapshotVm'))).toMatchObject({ type: 'stale_operation' });
    expect(stateOf(host)).toBe(before);
    expect(rig.control.row(id).state).toBe('running');
  });

  it('to its first task repeats a failed pause as an operation of its own', async () => {
    const handle = await failedPause();
    const repeated = await reset(handle);
    await repeated.result();
    expect(rig.control.row(id)).toMatchObject({ state: 'paused', epoch: 3, generation: 3 });
    const { memo } = await repeated.describe();
    const operation = rig.control.operations.get(String(memo?.['opId']));
    expect(operation).toMatchObject({ kind: 'pause', epoch: 3, state: 'succeeded' });
    await (await rig.begin('resume', id)).result();
    expect(host.vms.get(id)?.memory.notes).toEqual(['kept']);
  });

  it('to its first task while a step of it is stuck is refused, and a recovery lets the sandbox go on', async () => {
    const block = host.faults.block('hypervisor.save', { once: true });
    const handle = await rig.begin('pause', id);
    await block.reached;
    // The reset ends the run that is stuck, and nobody knows what it left.
    expect(await failureOf(await reset(handle))).toMatchObject({ type: 'state_conflict' });
    await (await rig.recover(id)).result();
    block.release();
    expect(host.vms.get(id)).toMatchObject({ status: 'running', memory: { notes: ['kept'], quiesced: false } });
    await (await rig.begin('pause', id)).result();
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 4`]);
    expect(host.violations).toEqual([]);
  });

  it('to its middle while a step of it is stuck goes on from there', async () => {
    const block = host.faults.block('hypervisor.save', { once: true });
    const handle = await rig.begin('pause', id);
    await block.reached;
    await (await reset(handle, 'snapshotVm')).result();
    block.release();
    expect(rig.control.row(id)).toMatchObject({ state: 'paused', epoch: 2 });
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
    expect(host.violations).toEqual([]);
  });

  it('is repeated too when it is started again by hand, without what only the API adds', async () => {
    const handle = await failedPause();
    const { raw } = await handle.describe();
    const [first] = (await handle.fetchHistory()).events ?? [];
    const input = first?.workflowExecutionStartedEventAttributes?.input?.payloads?.[0]?.data;
    const again = await rig.client.workflow.start(String(raw.workflowExecutionInfo?.type?.name), {
      workflowId: handle.workflowId,
      taskQueue: rig.queue,
      args: [JSON.parse(Buffer.from(input ?? []).toString())],
    });
    await again.result();
    expect(rig.control.row(id)).toMatchObject({ state: 'paused', epoch: 3 });
  });

  it('is no second chance for a duplicate of the API', async () => {
    const input = rig.input(id);
    await (await rig.start('pause', input)).result();
    await (await rig.begin('resume', id)).result();
    expect(await failureOf(await rig.start('pause', input))).toMatchObject({ type: 'stale_operation' });
    expect(rig.control.row(id).state).toBe('running');
  });
});
