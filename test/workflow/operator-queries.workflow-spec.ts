import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeHost } from '../support/fake-host-ports.js';
import { failureOf, newId, TIMING, until, WorkflowRig } from '../support/workflow-rig.js';

type Host = FakeHost & { id: string };

let rig: WorkflowRig;
let host: Host;

beforeAll(async () => {
  rig = await WorkflowRig.open();
  host = await rig.addHost();
});
afterAll(() => rig.close());

/** Types and ids of the runs that a query finds. */
async function found(query: string): Promise<string[]> {
  const runs: string[] = [];
  for await (const { type, workflowId } of rig.client.workflow.list({ query })) runs.push(`${type} ${workflowId}`);
  return runs.sort();
}

/** The list of runs lags behind the runs. */
async function expectFound(query: string, expected: string[]): Promise<void> {
  let last: string[] = [];
  const same = async (): Promise<boolean> => {
    last = await found(query);
    return last.join() === [...expected].sort().join();
  };
  await until(query, same).catch(() => undefined);
  expect(last).toEqual([...expected].sort());
}

const ago = (ms: number): string => new Date(Date.now() - ms).toISOString();
const DAY_MS = 86_400_000;

describe('the queries of the runbook, as they are written there', () => {
  it('find all failed pauses of a team this week', async () => {
    const team = `team${newId()}`;
    const failing = await rig.runningSandbox(host);
    host.faults.fail('hypervisor.save', new DomainError('disk_full', 'planted'), { times: TIMING.stepAttempts });
    await failureOf(await rig.start('pause', { ...rig.input(failing), teamId: team }));
    host.faults.clear();
    // Of another team, of another end, and of another kind.
    host.faults.fail('hypervisor.save', new DomainError('disk_full', 'planted'), { times: TIMING.stepAttempts });
    await failureOf(await rig.begin('pause', failing));
    host.faults.clear();
    await (await rig.start('pause', { ...rig.input(failing), teamId: team })).result();
    host.faults.fail('hypervisor.start', new DomainError('unsupported', 'planted'), { times: TIMING.stepAttempts });
    await failureOf(await rig.start('resume', { ...rig.input(failing), teamId: team }));
    host.faults.clear();
    const query = (since: string) =>
      `WorkflowType="PauseSandbox" AND ExecutionStatus="Failed" AND TeamId="${team}" AND CloseTime > "${since}"`;
    await expectFound(query(ago(7 * DAY_MS)), [`PauseSandbox sandbox/${failing}`]);
    expect(await found(query(new Date(Date.now() + DAY_MS).toISOString()))).toEqual([]);
  });

  it('find all operations on one host', async () => {
    const [one, other] = [await rig.addHost(), await rig.addHost()];
    const id = await rig.pausedSandbox(one);
    await rig.runningSandbox(other);
    const watch = await rig.watchHost(one.id);
    const run = `sandbox/${id}`;
    await expectFound(`HostId="${one.id}" AND WorkflowId STARTS_WITH "sandbox/"`, [
      `CreateSandbox ${run}`,
      `PauseSandbox ${run}`,
    ]);
    rig.control.hosts.splice(rig.control.hosts.indexOf(one.id), 1);
    await watch.result();
  });

  it('find everything that is stuck for longer than some time, and its stage', async () => {
    const id = await rig.runningSandbox(host);
    const block = host.faults.block('hypervisor.save');
    const handle = await rig.begin('pause', id);
    await block.reached;
    const { startTime } = await handle.describe();
    const query = (before: Date) =>
      `ExecutionStatus="Running" AND WorkflowId STARTS_WITH "sandbox/" AND StartTime < "${before.toISOString()}" AND SandboxId="${id}"`;
    await expectFound(query(new Date(startTime.getTime() + 1_000)), [`PauseSandbox sandbox/${id}`]);
    expect(await found(query(new Date(startTime.getTime() - 1_000)))).toEqual([]);
    block.release();
    await handle.result();
    await expectFound(query(new Date(startTime.getTime() + 1_000)), []);
  });
});
