import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { NativeConnection, Worker } from '@temporalio/worker';
import type { ControlActivities } from '../../activities/control/contract.js';
import { toApplicationFailure } from '../../activities/control/failure.js';
import type { ControlRepository } from '../../api/control/control.repository.js';
import { FailedStep } from '../../api/operation/failed-step.js';
import { OperationStarter, type StartedOperation } from '../../api/operation/operation-starter.js';
import type { OperationEntity } from '../../api/operation/operation.entity.js';
import { BuildStarter } from '../../api/template/build-starter.js';
import { TemporalCalls } from '../../api/temporal/temporal-calls.js';
import { DomainError, type Failure } from '../../workflows/contract/errors.js';
import { CONTROL_QUEUE, sandboxWorkflowId } from '../../workflows/contract/ids.js';
import type { FakeHost } from '../support/fake-host-ports.js';
import { ADDRESS_VARIABLE, BUNDLE_VARIABLE } from '../support/temporal.js';
import { failureOf, leftOf, newId, TIMING, WorkflowRig } from '../support/workflow-rig.js';

const WAIT_MS = 20_000;

let rig: WorkflowRig;
let host: FakeHost & { id: string };
let native: NativeConnection;
let worker: { it: Worker; done: Promise<void> };
let starter: OperationStarter;
let calls: TemporalCalls;
let buildRefusal: DomainError | null = null;

beforeAll(async () => {
  rig = await WorkflowRig.open();
  host = await rig.addHost();
  // The API knows one queue only, so what it starts needs a worker there; the database behind it is the rig's.
  native = await NativeConnection.connect({ address: process.env[ADDRESS_VARIABLE] ?? '' });
  const it = await Worker.create({
    connection: native,
    taskQueue: CONTROL_QUEUE,
    workflowBundle: { codePath: process.env[BUNDLE_VARIABLE] ?? '' },
    activities: {
      ...rig.control.activities,
      beginBuild: async (input: Parameters<ControlActivities['beginBuild']>[0]) => {
        if (buildRefusal) throw toApplicationFailure(buildRefusal);
        return rig.control.activities.beginBuild(input);
      },
    },
  });
  worker = { it, done: it.run() };
  calls = new TemporalCalls(rig.client);
  const store = { findOperation: async (id: string) => rig.control.operations.get(id) ?? null };
  starter = new OperationStarter(rig.client, calls, store as unknown as ControlRepository);
});
afterAll(async () => {
  worker.it.shutdown();
  await worker.done;
  await native.close();
  await rig.close();
});
beforeEach(() => host.faults.clear());

function start(
  kind: 'pause' | 'resume' | 'destroy',
  sandboxId: string,
  { opId = newId(), waitMs = 0 }: { opId?: string; waitMs?: number } = {},
): Promise<StartedOperation> {
  const input = { ...rig.input(sandboxId), opId };
  const target = { templateId: 'template', hostId: host.id, waitMs };
  return kind === 'destroy'
    ? starter.start({ ...target, kind, input: { ...input, reason: 'requested' } })
    : starter.start({ ...target, kind, input });
}

/** Runs of a sandbox, newest first. */
async function runsOf(sandboxId: string, type: string): Promise<string[]> {
  const query = `WorkflowId = '${sandboxWorkflowId(sandboxId)}' AND WorkflowType = '${type}'`;
  const found: string[] = [];
  for await (const { status } of rig.client.workflow.list({ query })) found.push(status.name);
  return found;
}

describe('OperationStarter', () => {
  it('answers when the sandbox is taken, or when the operation has ended', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.save');
    const taken = await start('pause', id, { opId: 'taken' + id });
    expect(taken).toEqual({ opId: `taken${id}`, settled: null });
    expect(rig.control.row(id).state).toBe('pausing');
    block.release();
    await rig.client.workflow.getHandle(sandboxWorkflowId(id)).result();

    const opId = newId();
    const { settled } = await start('resume', id, { opId, waitMs: WAIT_MS });
    expect(settled).toEqual({ opId, kind: 'resume', epoch: 3 });
    expect(rig.control.row(id).state).toBe('running');
  });

  it('finds the run of its own first attempt', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.save');
    const opId = newId();
    await start('pause', id, { opId });
    const again = [start('pause', id, { opId }), start('pause', id, { opId, waitMs: WAIT_MS })];
    expect(await again[0]).toEqual({ opId, settled: null });
    block.release();
    expect(await again[1]).toEqual({ opId, settled: { opId, kind: 'pause', epoch: 2 } });
    expect(rig.control.row(id).epoch).toBe(2);
  });

  it('joins a resume that is under way', async () => {
    const id = await rig.pausedSandbox(host);
    const block = host.faults.block('hypervisor.start');
    const opId = newId();
    await start('resume', id, { opId });
    const joining = start('resume', id, { waitMs: WAIT_MS });
    expect(await start('resume', id)).toEqual({ opId, settled: null });
    block.release();
    expect(await joining).toEqual({ opId, settled: { opId, kind: 'resume', epoch: 3 } });
    expect(rig.control.row(id)).toMatchObject({ state: 'running', epoch: 3 });
  });

  it('lets two hundred callers share one resume, those who wait for its end and those who do not', async () => {
    const id = await rig.pausedSandbox(host);
    const block = host.faults.block('hypervisor.start');
    const hasted = Array.from({ length: 100 }, () => start('resume', id));
    const waiting = Array.from({ length: 100 }, () => start('resume', id, { waitMs: WAIT_MS }));
    // Released whatever came of them: a step that stands still would outlive the test.
    const taken = await Promise.all(hasted).finally(() => block.release());
    const ended = await Promise.all(waiting);
    const [opId] = new Set([...taken, ...ended].map((started) => started.opId));
    expect(taken).toEqual(Array(100).fill({ opId, settled: null }));
    expect(ended).toEqual(Array(100).fill({ opId, settled: { opId, kind: 'resume', epoch: 3 } }));
    expect(rig.control.row(id)).toMatchObject({ state: 'running', epoch: 3 });
    expect(host.methodsOf(id).filter((method) => method === 'hypervisor.start')).toHaveLength(2);
  });

  it('refuses while another operation is under way, and names it', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.save');
    const opId = newId();
    await start('pause', id, { opId });
    for (const kind of ['pause', 'resume'] as const) {
      await expect(start(kind, id)).rejects.toMatchObject({
        code: 'operation_in_progress',
        message: expect.stringContaining(`pause ${opId}`),
        details: { operation: { id: opId, kind: 'pause' } },
      });
    }
    block.release();
    await rig.client.workflow.getHandle(sandboxWorkflowId(id)).result();
  });

  it('waits for what a settled operation has left to do, instead of refusing for it', async () => {
    const id = await rig.pausedSandbox(host);
    const block = host.faults.block('snapshots.delete');
    await start('resume', id, { waitMs: WAIT_MS });
    await block.reached;
    const pausing = start('pause', id, { waitMs: WAIT_MS });
    const first = await Promise.race([pausing, new Promise((resolve) => setTimeout(resolve, 300, 'waits'))]);
    expect(first).toBe('waits');
    block.release();
    expect((await pausing).settled).toMatchObject({ kind: 'pause', epoch: 4 });
    expect(rig.control.row(id).state).toBe('paused');
  });

  it('passes on why the rules refuse', async () => {
    const id = await rig.pausedSandbox(host);
    for (const waitMs of [0, WAIT_MS]) {
      await expect(start('pause', id, { waitMs })).rejects.toMatchObject({ code: 'state_conflict' });
    }
  });

  it('tells the failure of an operation that it waited for', async () => {
    const id = await rig.runningSandbox(host);
    host.faults.fail('hypervisor.save', new DomainError('disk_full', 'planted'), { times: TIMING.stepAttempts });
    const { settled } = await start('pause', id, { waitMs: WAIT_MS });
    expect(settled?.failure).toMatchObject({ step: 'snapshotVm', code: 'disk_full' });
    expect(rig.control.row(id).state).toBe('running');
  });

  it('follows the run that makes way until it is the destroy', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.save');
    const pausing = start('pause', id, { waitMs: WAIT_MS });
    await block.reached;
    const opId = newId();
    const destroying = start('destroy', id, { opId, waitMs: WAIT_MS });
    expect((await destroying).settled).toEqual({ opId, kind: 'destroy', epoch: 3 });
    expect((await pausing).settled?.failure).toBeDefined();
    block.release();
    expect(rig.control.row(id).state).toBe('stopped');
    expect(leftOf(host, id)).toEqual([]);
    expect(await runsOf(id, 'DestroySandbox')).toEqual(['COMPLETED']);
  });

  it('joins a destroy that is under way', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.kill');
    const opId = newId();
    await start('destroy', id, { opId });
    const joining = start('destroy', id, { waitMs: WAIT_MS });
    block.release();
    expect(await joining).toEqual({ opId, settled: { opId, kind: 'destroy', epoch: 2 } });
  });
});

describe('FailedStep', () => {
  const attempts = (sandboxId: string, runId: string, failure: Partial<Failure>): Promise<number | null> =>
    new FailedStep(rig.client, calls).attemptsOf({ sandboxId, runId, failure } as OperationEntity);

  it('tells how often the step was tried', async () => {
    const id = await rig.runningSandbox(host);
    host.faults.fail('hypervisor.save', new Error('planted'), { times: TIMING.stepAttempts });
    const { opId, settled } = await start('pause', id, { waitMs: WAIT_MS });
    const runId = rig.control.operations.get(opId)?.runId ?? '';
    expect(await attempts(id, runId, settled?.failure ?? {})).toBe(TIMING.stepAttempts);
    expect(await attempts(id, runId, { step: 'claim' })).toBeNull();
    expect(await attempts('unknown', runId, { step: 'snapshotVm' })).toBeNull();
  });

  it('tells a step that no worker of the host took', async () => {
    const away = await WorkflowRig.open();
    try {
      await away.addHost({ served: false });
      const handle = await away.create(newId());
      expect(await failureOf(handle)).toMatchObject({ type: 'no_hosts_available' });
      const sandboxId = handle.workflowId.slice(sandboxWorkflowId('').length);
      expect(await attempts(sandboxId, handle.firstExecutionRunId ?? '', { step: 'setUpNetwork' })).toBe(0);
    } finally {
      await away.close();
    }
  });
});

describe('BuildStarter', () => {
  afterEach(() => {
    buildRefusal = null;
  });

  async function endOf(setup: string[]): Promise<{ buildId: string; end: Promise<string> }> {
    const builds = new BuildStarter(rig.client, calls);
    const input = { buildId: newId(), templateId: 't', teamId: 'team', vcpus: 1, memoryMb: 256, image: 'minimal' };
    await builds.start({ ...input, setup, timing: TIMING });
    return { buildId: input.buildId, end: builds.ended(input.buildId, WAIT_MS) };
  }

  it('tells why a build did not begin, with the facts of its first step', async () => {
    buildRefusal = new DomainError('operation_in_progress', 'build x makes the same', { build_id: 'x' });
    await expect((await endOf([])).end).rejects.toMatchObject({
      code: 'operation_in_progress',
      message: 'build x makes the same',
      details: { build_id: 'x' },
    });
  });

  it('tells the step that failed, and when nothing did', async () => {
    expect(await (await endOf([])).end).toBe('ended');
    host.commandResults.set('false', { exitCode: 1, output: '' });
    const { buildId, end } = await endOf(['false']);
    await expect(end).rejects.toMatchObject({ code: 'guest_failed', details: { build_id: buildId } });
  });
});
