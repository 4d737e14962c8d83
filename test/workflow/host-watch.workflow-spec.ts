import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { sandboxWorkflowId } from '../../workflows/contract/ids.js';
import type { FakeHost } from '../support/fake-host-ports.js';
import { leftOf, newId, until, WorkflowRig, type Handle } from '../support/workflow-rig.js';

/** A host that does not take its tasks is waited for ten seconds; a busy machine adds to that. */
const ASKING_MS = 30_000;

type Host = FakeHost & { id: string };

let rig: WorkflowRig;

beforeAll(async () => {
  rig = await WorkflowRig.open();
});
afterAll(() => rig.close());
// Watches of a test that failed end too, and the next test has no hosts but its own.
afterEach(() => {
  rig.control.hosts.length = 0;
  rig.control.sandboxes.clear();
});

const stateOf = (id: string) => rig.control.row(id).state;
const becomes = (id: string, state: string) => until(`${id} is ${state}`, () => stateOf(id) === state);

/** Waits out a recovery that a reconciliation began and did not wait for. */
async function settled(id: string): Promise<void> {
  await rig.client.workflow.getHandle(sandboxWorkflowId(id)).result();
}

async function forget(host: Host, watch?: Handle): Promise<void> {
  rig.control.hosts.splice(rig.control.hosts.indexOf(host.id), 1);
  rig.control.silent.delete(host.id);
  if (watch) await watch.result();
}

describe('HostWatch', () => {
  it('calls sandboxes of a silent host missing, and running again, untouched, when it is back', async () => {
    const host = await rig.addHost();
    const id = await rig.runningSandbox(host);
    const paused = await rig.pausedSandbox(host);
    const watch = await rig.watchHost(host.id);
    rig.control.silent.add(host.id);
    await becomes(id, 'missing');
    expect(stateOf(paused)).toBe('paused');
    rig.control.silent.delete(host.id);
    await becomes(id, 'running');
    await until('the loss is over', () => !rig.control.lost.has(host.id));
    expect(host.vms.get(id)?.memory.notes).toEqual(['kept']);
    expect(stateOf(paused)).toBe('paused');
    expect(rig.control.reconciled).toContainEqual(
      expect.objectContaining({ kind: 'found', sandboxId: id, outcome: 'repaired' }),
    );
    await forget(host, watch);
  });

  it('boots from their disks what lost its memory with its host', async () => {
    const host = await rig.addHost();
    const id = await rig.runningSandbox(host);
    const watch = await rig.watchHost(host.id);
    rig.control.silent.add(host.id);
    await becomes(id, 'missing');
    host.losePower();
    rig.control.silent.delete(host.id);
    await becomes(id, 'running');
    await settled(id);
    expect(rig.control.row(id).memoryLost?.reason).toContain('its VM was gone');
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `network ${id}`, `vm ${id} running`]);
    await forget(host, watch);
  });

  it(
    'keeps the loss until the host tells what it holds, also when it is lost again meanwhile',
    async () => {
      const host = await rig.addHost({ served: false });
      const stop = await rig.serve(host);
      const id = await rig.runningSandbox(host);
      await stop();
      rig.control.silent.add(host.id);
      const watch = await rig.watchHost(host.id);
      await becomes(id, 'missing');
      // Heartbeats come, and nobody takes its tasks.
      rig.control.silent.delete(host.id);
      await until('it was asked', async () => ((await watch.describe()).raw.pendingActivities ?? []).length > 0);
      rig.control.silent.add(host.id);
      await until('it counts as lost again', async () => (await stageOf(watch)) === 'lost', ASKING_MS);
      expect(stateOf(id)).toBe('missing');
      await rig.serve(host);
      rig.control.silent.delete(host.id);
      await becomes(id, 'running');
      await until('the loss is over', () => !rig.control.lost.has(host.id));
      await forget(host, watch);
    },
    4 * ASKING_MS,
  );

  it('waits for a database that is down, and ends with its host', async () => {
    const host = await rig.addHost();
    const id = await rig.runningSandbox(host);
    rig.control.outages.set('checkLease', 3);
    rig.control.outages.set('compareHost', 1);
    rig.control.outages.set('endLoss', 2);
    const watch = await rig.watchHost(host.id);
    rig.control.silent.add(host.id);
    await becomes(id, 'missing');
    rig.control.silent.delete(host.id);
    await becomes(id, 'running');
    await until('the loss is over', () => !rig.control.lost.has(host.id));
    await forget(host, watch);
    expect((await watch.describe()).status.name).toBe('COMPLETED');
  });
});

async function stageOf(handle: Handle): Promise<string | undefined> {
  const { searchAttributes } = await handle.describe();
  return String(searchAttributes['Stage']?.[0]);
}

describe('Reconcile', () => {
  it(
    'shows what it would do and does nothing, mends it, and finds nothing the second time',
    async () => {
      const host = await rig.addHost();
      const lost = await rig.runningSandbox(host);
      const frozen = await rig.runningSandbox(host);
      const cutOff = await rig.runningSandbox(host);
      const stopped = await rig.runningSandbox(host);
      const fine = await rig.runningSandbox(host);
      host.crashVm(lost);
      host.vm(frozen).status = 'frozen';
      const block = host.faults.block('hypervisor.save');
      const pause = await rig.begin('pause', cutOff);
      await block.reached;
      await pause.terminate('by the test');
      block.release();
      rig.control.row(stopped).state = 'stopped';
      const unknown = newId();
      host.disks.set(unknown, { base: { path: '/fake/images/minimal', format: 'raw' }, content: [] });

      const kinds = { [lost]: 'vm_lost', [frozen]: 'vm_frozen', [cutOff]: 'run_lost', [stopped]: 'orphan' };
      const before = rig.control.reconciled.length;
      const preview = await rig.reconcile({ dryRun: true });
      expect(preview).toMatchObject({ dryRun: true, hosts: { asked: 1, answered: 1 }, sandboxes: 4 });
      for (const [sandboxId, kind] of Object.entries(kinds)) {
        expect(preview.findings).toContainEqual(expect.objectContaining({ sandboxId, kind, outcome: 'would_repair' }));
      }
      expect(preview.findings).toContainEqual(
        expect.objectContaining({ sandboxId: unknown, kind: 'unknown', outcome: 'kept' }),
      );
      expect(preview.findings).toHaveLength(5);
      expect(rig.control.reconciled).toHaveLength(before);
      expect(stateOf(cutOff)).toBe('pausing');

      const first = await rig.reconcile();
      expect(first.findings.find(({ sandboxId }) => sandboxId === stopped)).toMatchObject({ outcome: 'waiting' });
      expect(first.findings.find(({ sandboxId }) => sandboxId === unknown)).toMatchObject({ outcome: 'kept' });
      await Promise.all([lost, frozen, cutOff].map(settled));
      const states = [lost, frozen, cutOff, fine].map(stateOf);
      expect(states).toEqual(['running', 'running', 'running', 'running']);
      expect(rig.control.row(lost).memoryLost).toBeDefined();
      expect(host.vms.get(frozen)).toMatchObject({ status: 'running', memory: { notes: ['kept'] } });
      expect(host.vms.get(cutOff)?.memory.notes).toEqual(['kept']);
      expect(rig.control.reconciled).toHaveLength(before + 5);

      const second = await rig.reconcile();
      expect(second.findings.map(({ kind, outcome }) => `${kind} ${outcome}`).sort()).toEqual([
        'orphan repaired',
        'unknown kept',
      ]);
      expect(leftOf(host, stopped)).toEqual([]);
      await rig.reconcile({ removeUnknown: true });
      await rig.reconcile({ removeUnknown: true });
      expect(leftOf(host, unknown)).toEqual([]);
      expect((await rig.reconcile()).findings).toEqual([]);
      await forget(host);
    },
    4 * ASKING_MS,
  );

  it(
    'compares the rows of a host that does not answer without what it holds',
    async () => {
      const silent = await rig.addHost({ served: false });
      const deaf = await rig.addHost({ served: false });
      rig.control.silent.add(silent.id);
      const report = await rig.reconcile();
      expect(report.hosts).toEqual({ asked: 2, answered: 0 });
      expect(report.findings).toMatchObject([{ kind: 'host_unasked', hostId: deaf.id, outcome: 'kept' }]);
      await forget(silent);
      await forget(deaf);
    },
    4 * ASKING_MS,
  );

  it('tells an orphan that the host could not remove', async () => {
    const host = await rig.addHost();
    const id = await rig.runningSandbox(host);
    rig.control.row(id).state = 'stopped';
    rig.control.seen.add(id);
    host.faults.fail('hypervisor.kill', new Error('planted'), { times: 2 });
    expect((await rig.reconcile()).findings).toMatchObject([{ kind: 'orphan', sandboxId: id, outcome: 'failed' }]);
    expect((await rig.reconcile()).findings).toMatchObject([{ kind: 'orphan', sandboxId: id, outcome: 'repaired' }]);
    expect(leftOf(host, id)).toEqual([]);
    await forget(host);
  });
});
