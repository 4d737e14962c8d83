import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import { ttlWorkflowId } from '../../workflows/contract/ids.js';
import type { FakeHost, PortMethod } from '../support/fake-host-ports.js';
import { failureOf, leftOf, newId, TIMING, WorkflowRig, type Handle } from '../support/workflow-rig.js';

let rig: WorkflowRig;
let host: FakeHost & { id: string };

beforeAll(async () => {
  rig = await WorkflowRig.open();
  host = await rig.addHost();
});
afterAll(() => rig.close());
beforeEach(() => host.faults.clear());

describe('DestroySandbox', () => {
  const STEPS: [step: string, port: PortMethod][] = [
    ['killVm', 'hypervisor.kill'],
    ['detachDisk', 'disk.remove'],
    ['releaseNetwork', 'network.remove'],
    ['deleteFiles', 'snapshots.deleteAll'],
  ];

  it.each(STEPS)('goes on until %s succeeds (%s)', async (_step, port) => {
    const id = await rig.runningSandbox(host);
    host.faults.fail(port, new DomainError('disk_full', 'planted'), { times: 2 });
    host.faults.fail(port, new Error('busy'), { times: 2, when: 'after' });
    const handle = await rig.destroy(id);
    await handle.result();
    expect(rig.control.row(id).state).toBe('stopped');
    expect(leftOf(host, id)).toEqual([]);
    expect(host.violations).toEqual([]);
  });

  it('takes a paused sandbox with its memory, and a second one changes nothing', async () => {
    const id = await rig.pausedSandbox(host);
    const handle = await rig.destroy(id);
    await handle.result();
    expect(leftOf(host, id)).toEqual([]);
    expect((await handle.describe()).historyLength).toBeLessThanOrEqual(40);
    expect(await failureOf(await rig.destroy(id))).toMatchObject({ type: 'state_conflict' });
    expect(rig.control.row(id).state).toBe('stopped');
  });

  it('ignores a cancellation: there is no way back', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.kill');
    const handle = await rig.destroy(id);
    await block.reached;
    await handle.cancel();
    block.release();
    await handle.result();
    expect(leftOf(host, id)).toEqual([]);
  });
});

describe('SandboxTtl', () => {
  it('carries the timeout out when it is due, and tries again later when that fails', async () => {
    const id = newId();
    rig.control.expiries.push(
      { done: false, message: 'planted conflict' },
      { done: false, message: 'planted conflict' },
    );
    await (await rig.create(id, { timeoutSeconds: 1 })).result();
    await rig.client.workflow.getHandle(ttlWorkflowId(id)).result();
    expect(rig.control.row(id).state).toBe('paused');
    expect(rig.control.expiryFailures).toEqual(['planted conflict', 'planted conflict']);
    await (await rig.destroy(id)).result();
  });

  it('reads the deadline again when it moved, and ends with the sandbox', async () => {
    const id = newId();
    await (await rig.create(id, { timeoutSeconds: 3600 })).result();
    const keeper = rig.client.workflow.getHandle(ttlWorkflowId(id));
    expect((await keeper.describe()).status.name).toBe('RUNNING');
    rig.control.row(id).expiresAt = null;
    await keeper.signal('rearm');
    await keeper.result();
    expect(rig.control.row(id).state).toBe('running');
    await (await rig.destroy(id)).result();
  });

  it('ends when its sandbox is paused, begins again with the resume, and ends when it is destroyed', async () => {
    const id = newId();
    const keeper = rig.client.workflow.getHandle(ttlWorkflowId(id));
    const status = async () => (await keeper.describe()).status.name;
    await (await rig.create(id, { timeoutSeconds: 3600 })).result();
    expect(await status()).toBe('RUNNING');

    await (await rig.begin('pause', id)).result();
    // Fails by its deadline when the keeper sleeps on.
    await rig.client.withDeadline(Date.now() + 10_000, () => keeper.result());
    expect(await status()).toBe('COMPLETED');

    await (await rig.begin('resume', id)).result();
    expect(await status()).toBe('RUNNING');
    await (await rig.destroy(id)).result();
    await rig.client.withDeadline(Date.now() + 10_000, () => keeper.result());
    expect(await status()).toBe('COMPLETED');
  });
});

describe('TemplateBuild', () => {
  const STEPS: [step: string, port: PortMethod][] = [
    ['setUpNetwork', 'network.ensure'],
    ['attachDisk', 'disk.create'],
    ['startVm', 'hypervisor.start'],
    ['initGuest', 'guest.init'],
    ['runSetupCommand', 'guest.run'],
    ['quiesceGuest', 'guest.quiesce'],
    ['publishBuild', 'builds.save'],
    ['publishBuild', 'hypervisor.save'],
    ['publishBuild', 'disk.publish'],
  ];
  let buildId: string;
  beforeEach(() => {
    buildId = newId();
  });

  const build = (setup: string[]): Promise<Handle> => rig.build(buildId, setup);

  it('publishes memory and disk, keeps the log, leaves nothing else', async () => {
    host.commandResults.set('apt-get install hello', { exitCode: 0, output: 'done\n' });
    await (await build(['apt-get install hello', 'true'])).result();
    expect(leftOf(host, buildId)).toEqual([`build ${buildId}`]);
    const { state, log, artefact } = rig.control.builds.get(buildId) ?? { state: '', log: '' };
    expect(state).toBe('ready');
    expect(log).toContain('$ apt-get install hello\ndone\n[exit 0');
    expect(artefact?.memoryBytes).toBeGreaterThan(0);
  });

  it('fails with the command that failed, and its log', async () => {
    host.commandResults.set('false', { exitCode: 3, output: 'no such thing\n' });
    expect(await failureOf(await build(['true', 'false', 'true']))).toMatchObject({
      type: 'guest_failed',
      message: expect.stringContaining('set-up command 2 of 3 exited with 3: false'),
    });
    expect(rig.control.builds.get(buildId)).toMatchObject({
      state: 'failed',
      failure: { step: 'runSetupCommand' },
      log: expect.stringContaining('no such thing'),
    });
    expect(leftOf(host, buildId)).toEqual([]);
  });

  it.each(STEPS)('leaves nothing when %s fails (%s)', async (step, port) => {
    host.faults.fail(port, new DomainError('unsupported', 'planted'), { times: TIMING.stepAttempts });
    await failureOf(await build(['true']));
    expect(rig.control.builds.get(buildId)).toMatchObject({ state: 'failed', failure: { step } });
    expect(leftOf(host, buildId)).toEqual([]);
  });

  it.each(STEPS)('leaves nothing when it is cancelled in %s (%s)', async (_step, port) => {
    const block = host.faults.block(port);
    const handle = await build(['true']);
    await block.reached;
    await handle.cancel();
    await failureOf(handle);
    block.release();
    expect(rig.control.builds.get(buildId)?.state).toBe('cancelled');
    expect(leftOf(host, buildId)).toEqual([]);
  });
});
