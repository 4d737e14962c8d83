import { beforeEach, describe, expect, it } from '@jest/globals';
import { CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { FakeHost } from '../../test/support/fake-host-ports.js';
import type { HostActivities } from './contract.js';
import { createHostActivities } from './host-activities.js';

const op = { sandboxId: 's1', epoch: 5, opId: 'op5' };
const newer = { sandboxId: 's1', epoch: 6, opId: 'op6' };
const setUp = { ...op, egress: true };
const attach = { ...op, source: { kind: 'image', image: 'minimal' } } as const;

let host: FakeHost;
let steps: HostActivities;

beforeEach(() => {
  host = new FakeHost();
  steps = createHostActivities(host.ports, { heartbeatMs: 5 });
});

function countOf(method: string): number {
  return host.calls.filter((call) => call.method === method).length;
}

describe('a step', () => {
  it('acts once when its attempts overlap', async () => {
    const block = host.faults.block('network.ensure');
    const attempts = [steps.setUpNetwork(setUp), steps.setUpNetwork(setUp)];
    await block.reached;
    block.release();
    await Promise.all(attempts);
    expect(countOf('network.ensure')).toBe(1);
  });

  it('acts again when the first attempt failed, and when its record was lost', async () => {
    host.faults.fail('network.ensure', new Error('busy'));
    await expect(steps.setUpNetwork(setUp)).rejects.toThrow('busy');
    host.faults.fail('journal.done', new Error('died'));
    await expect(steps.setUpNetwork(setUp)).rejects.toThrow('died');
    await steps.setUpNetwork(setUp);
    expect(countOf('network.ensure')).toBe(3);
  });

  it('runs beside a step of the other lane', async () => {
    const block = host.faults.block('network.ensure');
    const network = steps.setUpNetwork(setUp);
    await block.reached;
    await steps.attachDisk(attach);
    expect(host.remaining()).toEqual(['disk s1']);
    block.release();
    await network;
  });

  it('of a newer operation interrupts the older one and waits for its end', async () => {
    const deaf = host.faults.block('network.ensure', { deaf: true });
    const older = steps.setUpNetwork(setUp);
    await deaf.reached;
    const killed = steps.killVm(newer).then(() => expect(host.methodsOf('s1')).toContain('network.ensure'));
    const refused = expect(older).rejects.toMatchObject({ code: 'stale_operation' });
    expect(countOf('hypervisor.kill')).toBe(0);
    deaf.release();
    await refused;
    await killed;
    expect(host.remaining()).toEqual([]);
  });

  it('of an older operation is refused once a newer one has begun', async () => {
    await steps.releaseNetwork(newer);
    await expect(steps.setUpNetwork(setUp)).rejects.toMatchObject({ code: 'stale_operation' });
    expect(countOf('network.ensure')).toBe(0);
  });

  it('that arrives after its own undo is refused', async () => {
    const block = host.faults.block('network.remove');
    const undo = steps.releaseNetwork(op);
    await block.reached;
    const late = steps.setUpNetwork(setUp);
    const refused = expect(late).rejects.toMatchObject({ code: 'stale_operation' });
    block.release();
    await undo;
    await refused;
    expect(host.remaining()).toEqual([]);
  });

  it('of a closed epoch is refused by a restarted worker too, except for its recorded result', async () => {
    await steps.attachDisk(attach);
    await steps.setUpNetwork({ ...setUp, last: true });
    const restarted = createHostActivities(host.ports);
    await expect(restarted.killVm(op)).rejects.toMatchObject({ code: 'stale_operation' });
    await restarted.setUpNetwork({ ...setUp, last: true });
    await restarted.closeEpoch(op);
    expect(countOf('network.ensure')).toBe(1);
  });

  it('ends as a cancellation when Temporal cancels it, and undoes nothing by itself', async () => {
    const environment = new MockActivityEnvironment();
    const block = host.faults.block('network.ensure');
    const run = environment.run(steps.setUpNetwork, setUp);
    await block.reached;
    environment.cancel();
    await expect(run).rejects.toBeInstanceOf(CancelledFailure);
    await steps.releaseNetwork(op);
    expect(host.remaining()).toEqual([]);
  });

  it('that waits for its turn can be cancelled, and gives the turn back', async () => {
    const block = host.faults.block('network.ensure');
    const first = steps.setUpNetwork(setUp);
    await block.reached;
    const environment = new MockActivityEnvironment();
    const waiting = environment.run(steps.killVm, op);
    const ended = expect(waiting).rejects.toBeInstanceOf(CancelledFailure);
    environment.cancel();
    await ended;
    block.release();
    await first;
    await steps.killVm(op);
    expect(countOf('hypervisor.kill')).toBe(1);
  });

  it('heartbeats while it works and not afterwards', async () => {
    const environment = new MockActivityEnvironment();
    let beats = 0;
    let seen!: () => void;
    const three = new Promise<void>((resolve) => (seen = resolve));
    environment.on('heartbeat', () => {
      beats += 1;
      if (beats === 3) seen();
    });
    const block = host.faults.block('network.ensure');
    const run = environment.run(steps.setUpNetwork, setUp);
    await three;
    block.release();
    await run;
    const atEnd = beats;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(beats).toBe(atEnd);
  });
});
