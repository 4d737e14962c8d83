import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import type { Reconciled } from '../../workflows/contract/findings.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import { sandboxWorkflowId } from '../../workflows/contract/ids.js';
import { clear, FakeControlTemporal, holding, SandboxRows } from './control-rig.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

const CLOSED: NetworkPolicy = { egress: false, allow: [{ cidr: '10.0.0.0/8', ports: '443', protocol: 'tcp' }] };

describe('a network policy in the database', () => {
  let database: TestDatabase;
  let temporal: FakeControlTemporal;
  let activities: ControlActivities;
  let sandboxes: SandboxRows;
  let now: Date;
  let count = 0;

  beforeAll(async () => {
    database = await startDatabase();
    await database.dataSource.query(`INSERT INTO teams (id, name) VALUES ('team', 'Team'), ('other', 'Other')`);
  });
  afterAll(() => database.stop());

  beforeEach(async () => {
    now = new Date('2030-01-01T00:00:00Z');
    temporal = new FakeControlTemporal();
    await temporal.ensureWatch('h1');
    activities = createControlActivities(new ControlRepository(database.dataSource), temporal, () => now);
    sandboxes = new SandboxRows(database.dataSource, activities);
    await clear(database.dataSource);
    await insertHost(database.dataSource, 'h1', { memoryMb: 4096 });
  });

  function ask(sandboxId: string, network: NetworkPolicy = CLOSED) {
    count += 1;
    return { opId: `n${count}`, runId: `nr${count}`, sandboxId, teamId: 'team', network };
  }

  async function change(sandboxId: string, network?: NetworkPolicy) {
    const input = ask(sandboxId, network);
    const claim = await activities.claimNetwork(input);
    const settle = (operation: 'succeeded' | 'failed' | 'cancelled') =>
      activities.settle({
        ...{ sandboxId, opId: input.opId, epoch: claim.epoch, operation, sandbox: null },
        ...(operation === 'succeeded'
          ? {}
          : { failure: { step: 'applyNetworkPolicy', code: 'command_failed', message: 'nft failed' } as const }),
      });
    return { input, claim, settle };
  }

  it('is what a create says, and of an older row what its egress says', async () => {
    const short = await sandboxes.running({ egress: false });
    expect(await sandboxes.row(short)).toMatchObject({ egress: false, network: { egress: false } });
    const sandboxId = await sandboxes.running({ network: CLOSED });
    expect(await sandboxes.row(sandboxId)).toMatchObject({ network: CLOSED, egress: false });
    const plain = await sandboxes.running();
    expect(await sandboxes.row(plain)).toMatchObject({ network: { egress: true }, egress: true });
    await database.dataSource.query(`UPDATE sandboxes SET network = NULL, egress = false WHERE id = $1`, [plain]);
    const pause = { opId: `p-${plain}`, sandboxId: plain, teamId: 'team', runId: 'p', kind: 'pause' } as const;
    expect((await activities.claim(pause)).network).toEqual({ egress: false });
  });

  it('changes with the end of the operation, while the sandbox stays what it is', async () => {
    const sandboxId = await sandboxes.running({ timeoutSeconds: 60 });
    const before = await sandboxes.row(sandboxId);
    now = new Date('2030-01-01T00:00:30Z');
    const { claim, settle } = await change(sandboxId);
    expect(claim).toMatchObject({ epoch: 2, hostId: 'h1', was: 'running', network: { egress: true } });
    expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'running', epoch: 2, network: { egress: true } });
    await settle('succeeded');
    const after = await sandboxes.row(sandboxId);
    expect(after).toMatchObject({ state: 'running', network: CLOSED, egress: false, failure: null });
    // A change of what it may send is no use of it.
    expect([after.expiresAt, after.startedAt]).toEqual([before.expiresAt, before.startedAt]);
    expect(temporal.woken).toEqual([]);
    const events = await sandboxes.events(sandboxId);
    expect(events.slice(-2)).toEqual([
      { type: 'network.started', data: { from: 'running', network: CLOSED } },
      { type: 'network.succeeded', data: { state: 'running' } },
    ]);
    await settle('succeeded');
    expect(await sandboxes.events(sandboxId)).toHaveLength(events.length);
  });

  it('of a paused sandbox changes in the row, and its resume is told', async () => {
    const sandboxId = await sandboxes.paused();
    const { pausedAt } = await sandboxes.row(sandboxId);
    now = new Date('2030-01-01T00:00:30Z');
    const { claim, settle } = await change(sandboxId);
    expect(claim.was).toBe('paused');
    await settle('succeeded');
    expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'paused', network: CLOSED, pausedAt });
    const resume = { opId: 'r', sandboxId, teamId: 'team', runId: 'r', kind: 'resume' } as const;
    expect((await activities.claim(resume)).network).toEqual(CLOSED);
  });

  it.each(['failed', 'cancelled'] as const)('stays what it was when the operation %s', async (how) => {
    const sandboxId = await sandboxes.running();
    const { input, settle } = await change(sandboxId);
    await settle(how);
    expect(await sandboxes.row(sandboxId)).toMatchObject({
      ...{ state: 'running', network: { egress: true }, egress: true },
      failure: how === 'failed' ? { code: 'command_failed', step: 'applyNetworkPolicy' } : null,
    });
    // What a retry of it would bring.
    expect(await sandboxes.operation(input.opId)).toMatchObject({ kind: 'network', state: how, network: CLOSED });
  });

  it('does not bring back a sandbox whose host was lost meanwhile', async () => {
    const sandboxId = await sandboxes.running({ timeoutSeconds: 60 });
    const { settle } = await change(sandboxId);
    await database.dataSource.query(`UPDATE sandboxes SET state = 'missing' WHERE id = $1`, [sandboxId]);
    await settle('succeeded');
    expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'missing', network: CLOSED });
    expect(temporal.woken).toEqual([sandboxId]);
  });

  it('is claimed once, by one run, of what runs or is paused, and is its own team’s', async () => {
    const sandboxId = await sandboxes.running();
    const input = ask(sandboxId);
    const claim = await activities.claimNetwork(input);
    expect(await activities.claimNetwork(input)).toEqual(claim);
    const stale = { type: 'stale_operation' };
    await expect(activities.claimNetwork({ ...input, runId: 'another' })).rejects.toMatchObject(stale);
    await expect(activities.claimNetwork({ ...ask(sandboxId), teamId: 'other' })).rejects.toMatchObject({
      type: 'not_found',
    });
    const { sandboxId: pausing } = await sandboxes.pausing();
    await expect(activities.claimNetwork(ask(pausing))).rejects.toMatchObject({
      type: 'state_conflict',
      message: `cannot change the network policy of sandbox ${pausing}: it is pausing`,
    });
  });

  it('is held by one claim of many at once', async () => {
    const sandboxId = await sandboxes.running();
    const claims = await Promise.all(Array.from({ length: 8 }, () => activities.claimNetwork(ask(sandboxId))));
    const { epoch } = await sandboxes.row(sandboxId);
    expect(claims.map((claim) => claim.epoch).toSorted((a, b) => a - b)).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
    const open = await database.dataSource.query<unknown[]>(
      `SELECT epoch FROM operations WHERE sandbox_id = $1 AND state = 'running'`,
      [sandboxId],
    );
    expect(open).toEqual([{ epoch }]);
  });

  describe('and a reconciliation', () => {
    async function find(sandboxId: string) {
      const before = await activities.surveySandboxes({ hostId: 'h1' });
      const { state, generation } = await sandboxes.row(sandboxId);
      const holdings = [
        state === 'paused' ? holding(sandboxId, { vm: 'absent', snapshots: [generation] }) : holding(sandboxId),
      ];
      return activities.compareHost({ hostId: 'h1', before, holdings });
    }
    const repair = (findings: Awaited<ReturnType<typeof find>>) =>
      new MockActivityEnvironment().run<[], Reconciled[], () => Promise<Reconciled[]>>(() =>
        activities.repair({ findings, reason: 'reconciler' }),
      );

    it.each(['running', 'paused'] as const)('find nothing wrong with a %s one that is being changed', async (state) => {
      const sandboxId = await sandboxes[state]();
      await activities.claimNetwork(ask(sandboxId));
      temporal.open.add(sandboxWorkflowId(sandboxId));
      expect(await find(sandboxId)).toEqual([]);
    });

    it('a recovery takes over a running one whose run is gone, and is told of it', async () => {
      const sandboxId = await sandboxes.running();
      const { epoch } = await activities.claimNetwork(ask(sandboxId));
      const found = await find(sandboxId);
      expect(found).toMatchObject([{ kind: 'run_lost', before: { state: 'running', open: true } }]);
      expect(await repair(found)).toMatchObject([{ outcome: 'repaired' }]);
      expect(temporal.repairs).toMatchObject([{ kind: 'recover', ifEpoch: epoch }]);
      const recover = { opId: 'rec', runId: 'rec', sandboxId, teamId: 'team', reason: 'reconciler' };
      const claim = await activities.claimRecovery({ ...recover, ifEpoch: epoch, boot: false, discardMemory: false });
      // The policy that counts is the one before.
      expect(claim).toMatchObject({
        was: 'running',
        interrupted: { kind: 'network', epoch },
        network: { egress: true },
      });
    });

    it('close what is left of the change of a paused one, whose memory is safe', async () => {
      const sandboxId = await sandboxes.paused();
      const input = ask(sandboxId);
      const { epoch } = await activities.claimNetwork(input);
      const found = await find(sandboxId);
      expect(found).toMatchObject([{ kind: 'run_lost', before: { state: 'paused', open: true } }]);
      const closed = { state: 'paused', closed: input.opId };
      expect(await repair(found)).toMatchObject([{ outcome: 'repaired', after: closed }]);
      expect(await sandboxes.operation(input.opId)).toMatchObject({ state: 'cancelled' });
      expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'paused', network: { egress: true } });
      expect([temporal.repairs, await find(sandboxId)]).toEqual([[], []]);
      // The answer of the first attempt was lost.
      expect(await repair(found)).toMatchObject([{ outcome: 'repaired', after: { state: 'paused', closed: null } }]);
      const late = { sandboxId, opId: input.opId, epoch, operation: 'succeeded', sandbox: null } as const;
      await expect(activities.settle(late)).rejects.toMatchObject({ type: 'stale_operation' });
    });
  });
});
