import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeHost } from '../support/fake-host-ports.js';
import { failureOf, leftOf, WorkflowRig } from '../support/workflow-rig.js';

const INCOMPATIBLE = new DomainError('snapshot_incompatible', 'saved by qemu, and this host now runs another');

let rig: WorkflowRig;
let host: FakeHost & { id: string };
let id: string;

beforeAll(async () => {
  rig = await WorkflowRig.open();
  host = await rig.addHost();
});
afterAll(() => rig.close());

/** The host cannot load any more what it has saved. */
function changeHost(): void {
  host.faults.fail('snapshots.memoryFile', INCOMPATIBLE, { times: Infinity });
}

describe('a host that runs another hypervisor than the one that saved a paused sandbox', () => {
  beforeEach(async () => {
    host.faults.clear();
    id = await rig.pausedSandbox(host);
  });

  it('refuses its resume and keeps the paused state, which a host that is as it was resumes', async () => {
    changeHost();
    expect(await failureOf(await rig.begin('resume', id))).toMatchObject({ type: 'snapshot_incompatible' });
    expect(rig.control.row(id)).toMatchObject({ state: 'paused', failure: { code: 'snapshot_incompatible' } });
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
    host.faults.clear();
    await (await rig.begin('resume', id)).result();
    expect(host.vms.get(id)?.memory.notes).toEqual(['kept']);
  });

  it('boots it from its disk, and tells of the loss, when its memory is given up', async () => {
    changeHost();
    expect(await failureOf(await rig.recover(id))).toMatchObject({ type: 'state_conflict' });
    expect(rig.control.row(id).state).toBe('paused');
    await (await rig.recover(id, { discardMemory: true, boot: true })).result();
    expect(rig.control.row(id)).toMatchObject({
      state: 'running',
      memoryLost: { reason: 'its saved memory was given up on request' },
    });
    expect(host.disks.get(id)?.content).toEqual(['kept']);
    expect(host.vms.get(id)?.memory.notes).toEqual([]);
  });

  it('is no reason to give the memory up in a recovery of a resume that was cut off', async () => {
    const block = host.faults.block('disk.attach');
    const resume = await rig.begin('resume', id);
    await block.reached;
    await resume.terminate('by the test');
    block.release();
    changeHost();
    await (await rig.recover(id)).result();
    expect(rig.control.row(id).state).toBe('paused');
    expect(leftOf(host, id)).toEqual([`disk ${id}`, `snapshot ${id} 2`]);
  });
});
