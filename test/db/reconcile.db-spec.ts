import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import type { ControlActivities, SurveyedSandbox } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import type { Holding } from '../../activities/host/contract.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { Finding, Reconciled } from '../../workflows/contract/findings.js';
import {
  buildWorkflowId,
  hostWatchWorkflowId,
  sandboxWorkflowId,
  ttlWorkflowId,
} from '../../workflows/contract/ids.js';
import { clear, FakeControlTemporal, holding, SandboxRows } from './control-rig.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

describe('a reconciliation in the database', () => {
  let database: TestDatabase;
  let activities: ControlActivities;
  let sandboxes: SandboxRows;
  let temporal: FakeControlTemporal;

  beforeAll(async () => {
    database = await startDatabase();
    await database.dataSource.query(`INSERT INTO teams (id, name) VALUES ('team', 'Team')`);
  });
  afterAll(() => database.stop());

  beforeEach(async () => {
    await clear(database.dataSource);
    await insertHost(database.dataSource, 'h1', { memoryMb: 8192, vcpus: 16 });
    temporal = new FakeControlTemporal();
    temporal.open.add(hostWatchWorkflowId('h1'));
    const store = new ControlRepository(database.dataSource);
    activities = createControlActivities(store, temporal);
    sandboxes = new SandboxRows(database.dataSource, activities);
  });

  const sql = <T = unknown>(text: string, ...values: unknown[]): Promise<T[]> =>
    database.dataSource.query<T[]>(text, values);
  const find = async (holdings: Holding[] | null, before?: SurveyedSandbox[]): Promise<Finding[]> => {
    const then = before ?? (await activities.surveySandboxes({ hostId: 'h1' }));
    return activities.compareHost({ hostId: 'h1', before: then, holdings });
  };
  const kinds = async (...asked: Parameters<typeof find>): Promise<string[]> =>
    (await find(...asked)).map(({ kind }) => kind);
  const repair = (findings: Finding[]): Promise<Reconciled[]> =>
    new MockActivityEnvironment().run<[], Reconciled[], () => Promise<Reconciled[]>>(() =>
      activities.repair({ findings, reason: 'reconciler' }),
    );
  const outcomes = async (findings: Finding[]): Promise<string[]> =>
    (await repair(findings)).map(({ kind, outcome }) => `${kind} ${outcome}`);
  const state = async (id: string) => (await sandboxes.row(id)).state;
  const silence = (seconds: number) =>
    sql(`UPDATE hosts SET heartbeat_at = now() - make_interval(secs => $1)`, seconds);

  it('finds nothing where all is well', async () => {
    const running = await sandboxes.running({ timeoutSeconds: 60 });
    await activities.armTtl({ sandboxId: running });
    const paused = await sandboxes.paused();
    const { sandboxId: pausing } = await sandboxes.pausing();
    temporal.open.add(sandboxWorkflowId(pausing));
    const holdings = [holding(running), holding(paused, { vm: 'absent', snapshots: [2] }), holding(pausing)];
    expect(await find(holdings)).toEqual([]);
    expect(await activities.compareHost({ hostId: null, before: [], holdings: null })).toEqual([]);
    expect(await activities.surveyHosts()).toEqual([{ id: 'h1', online: true }]);
  });

  describe('run_lost', () => {
    it('is an operation of which no run is open; a recovery takes it over, once', async () => {
      const { sandboxId, epoch } = await sandboxes.pausing();
      const found = await find([holding(sandboxId)]);
      expect(found).toMatchObject([{ kind: 'run_lost', sandboxId, epoch, before: { state: 'pausing', open: true } }]);
      expect(await outcomes(found)).toEqual(['run_lost repaired']);
      expect(temporal.repairs).toMatchObject([{ kind: 'recover', ifEpoch: epoch, sandbox: { id: sandboxId } }]);
      expect(await kinds([holding(sandboxId)])).toEqual([]);
      // The answer of the first attempt was lost.
      await repair(found);
      expect(new Set(temporal.repairs.map(({ opId }) => opId)).size).toBe(1);
    });

    it('of a destroy is mended by the destroy again', async () => {
      const sandboxId = await sandboxes.running();
      await activities.claim({ opId: 'd', sandboxId, teamId: 'team', runId: 'd', kind: 'destroy' });
      await repair(await find(null));
      expect(temporal.repairs).toMatchObject([{ kind: 'destroy', reason: 'reconciler', sandbox: { id: sandboxId } }]);
    });

    it('is not an operation that ended while Temporal was asked', async () => {
      const { sandboxId, opId, epoch } = await sandboxes.pausing();
      temporal.meanwhile = async (id) => {
        if (id !== sandboxWorkflowId(sandboxId)) return;
        await activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'paused' });
      };
      expect(await kinds([holding(sandboxId)])).toEqual([]);
    });

    it('of a sandbox that never reached a host is found too', async () => {
      const { sandboxId } = await sandboxes.pausing();
      await sql(`UPDATE sandboxes SET host_id = NULL WHERE id = $1`, sandboxId);
      const before = await activities.surveySandboxes({ hostId: null });
      expect(await activities.compareHost({ hostId: null, before, holdings: null })).toMatchObject([
        { kind: 'run_lost', hostId: null, sandboxId },
      ]);
    });
  });

  describe('build_lost', () => {
    const build = { buildId: 'b1', templateId: 'minimal', teamId: 'team', vcpus: 1, memoryMb: 512, image: 'minimal' };
    const begin = () => activities.beginBuild({ ...build, setup: [], runId: 'r' });
    const row = async () => (await sql<object>('SELECT state, failure FROM template_builds WHERE id = $1', 'b1'))[0];

    it('is a build of which no run is open: it has failed, and what it left is an orphan', async () => {
      await begin();
      temporal.open.add(buildWorkflowId('b1'));
      const held = [holding('b1')];
      expect(await kinds(held)).toEqual([]);
      temporal.open.delete(buildWorkflowId('b1'));
      const found = await find(held);
      expect(found).toMatchObject([{ kind: 'build_lost', hostId: 'h1', sandboxId: 'b1' }]);
      expect(await outcomes(found)).toEqual(['build_lost repaired']);
      expect(await row()).toMatchObject({ state: 'failed', failure: { code: 'stale_operation' } });
      expect(await outcomes(found)).toEqual(['build_lost repaired']);
      expect(await kinds(held)).toEqual(['orphan']);
    });

    it('is not one that ended while Temporal was asked', async () => {
      await begin();
      temporal.meanwhile = async (id) => {
        if (id === buildWorkflowId('b1')) await activities.finishBuild({ buildId: 'b1', state: 'cancelled' });
      };
      expect(await kinds([])).toEqual([]);
    });
  });

  it.each([
    ['vm_lost', 'absent', 'running'],
    ['vm_frozen', 'frozen', 'running'],
    ['unresolved', 'absent', 'missing'],
  ] as const)('%s: a recovery is started for it', async (kind, vm, was) => {
    const sandboxId = await (was === 'running' ? sandboxes.running() : sandboxes.missing());
    const found = await find([holding(sandboxId, { vm })]);
    expect(found.map((finding) => finding.kind)).toEqual([kind]);
    expect(await outcomes(found)).toEqual([`${kind} repaired`]);
    expect(temporal.repairs).toMatchObject([{ kind: 'recover', reason: 'reconciler', ifEpoch: 1 }]);
  });

  it('says what became of a repair that was refused', async () => {
    const sandboxId = await sandboxes.running();
    const found = await find([]);
    temporal.refusal = new DomainError('operation_in_progress', 'a pause is under way');
    expect(await repair(found)).toMatchObject([{ outcome: 'waiting', after: { why: 'a pause is under way' } }]);
    temporal.refusal = new DomainError('no_hosts_available', 'no memory is left');
    expect(await repair(found)).toMatchObject([{ outcome: 'failed', after: { code: 'no_hosts_available' } }]);
    await sql(`UPDATE sandboxes SET epoch = 9 WHERE id = $1`, sandboxId);
    expect(await repair(found)).toMatchObject([{ outcome: 'kept', after: { code: 'state_conflict' } }]);
    expect(temporal.repairs).toEqual([]);
  });

  describe('found', () => {
    it('runs again with its deadline and its keeper, without having been touched', async () => {
      const sandboxId = await sandboxes.missing({ timeoutSeconds: 60 });
      const { expiresAt, epoch } = await sandboxes.row(sandboxId);
      const found = await find([holding(sandboxId)]);
      expect(await outcomes(found)).toEqual(['found repaired']);
      expect(await outcomes(found)).toEqual(['found repaired']);
      expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'running', expiresAt, epoch });
      expect((await sandboxes.events(sandboxId)).filter(({ type }) => type === 'host.returned')).toHaveLength(1);
      expect(temporal.armed).toContain(sandboxId);
      expect(await kinds([holding(sandboxId)])).toEqual([]);
    });

    it('is not what somebody has taken meanwhile', async () => {
      const sandboxId = await sandboxes.missing();
      const found = await find([holding(sandboxId)]);
      await activities.claim({ opId: 'd', sandboxId, teamId: 'team', runId: 'd', kind: 'destroy' });
      expect(await outcomes(found)).toEqual(['found kept']);
      expect(await state(sandboxId)).toBe('stopping');
    });

    it('is not what a resume left half done: a recovery has to look', async () => {
      const sandboxId = await sandboxes.paused();
      const { epoch } = await activities.claim({
        ...{ opId: 'r', sandboxId, teamId: 'team', runId: 'r', kind: 'resume' },
      });
      await silence(30);
      await activities.checkLease({ hostId: 'h1' });
      const failure = { step: 'startVm', code: 'host_unavailable', message: 'away' } as const;
      await activities.settle({ sandboxId, opId: 'r', epoch, operation: 'failed', sandbox: 'missing', failure });
      await silence(0);
      expect(await kinds([holding(sandboxId)])).toEqual(['unresolved']);
    });

    it('is what was lost after its last operation had failed and left it running', async () => {
      const { sandboxId, opId, epoch } = await sandboxes.pausing();
      const failure = { step: 'snapshotVm', code: 'disk_full', message: 'full' } as const;
      await activities.settle({ sandboxId, opId, epoch, operation: 'failed', sandbox: 'running', failure });
      await sql(`UPDATE operations SET finished_at = now() - interval '1 minute' WHERE id = $1`, opId);
      await silence(30);
      await activities.checkLease({ hostId: 'h1' });
      await silence(0);
      expect(await kinds([holding(sandboxId)])).toEqual(['found']);
    });
  });

  it('snapshot_lost: the row says so, and what can be done', async () => {
    const sandboxId = await sandboxes.paused();
    const gone = holding(sandboxId, { vm: 'absent', snapshots: [1] });
    const found = await find([gone]);
    expect(await outcomes(found)).toEqual(['snapshot_lost repaired']);
    expect(await sandboxes.row(sandboxId)).toMatchObject({
      state: 'error',
      failure: { code: 'memory_lost', operationId: null, suggestion: expect.stringContaining('recover') },
    });
    expect(await kinds([gone])).toEqual([]);
  });

  describe('epoch_behind', () => {
    it('raises the epoch, so that operations are not refused on the host', async () => {
      const sandboxId = await sandboxes.running();
      const found = await find([holding(sandboxId, { epoch: 7 })]);
      expect(found).toMatchObject([{ kind: 'epoch_behind', before: { epoch: 1, host_epoch: 7 } }]);
      expect(await outcomes(found)).toEqual(['epoch_behind repaired']);
      expect(await outcomes(found)).toEqual(['epoch_behind repaired']);
      expect(await kinds([holding(sandboxId, { epoch: 7 })])).toEqual([]);
      expect(await activities.claim({ opId: 'p', sandboxId, teamId: 'team', runId: 'p', kind: 'pause' })).toMatchObject(
        { epoch: 8 },
      );
    });

    it('comes before whatever else is mended of the same sandbox, in one run', async () => {
      const sandboxId = await sandboxes.running();
      const gone = holding(sandboxId, { epoch: 7, vm: 'absent' });
      expect(await outcomes(await find([gone]))).toEqual(['epoch_behind repaired', 'vm_lost repaired']);
      expect(temporal.repairs).toMatchObject([{ kind: 'recover', ifEpoch: 7 }]);
      const { sandboxId: stuck } = await sandboxes.pausing();
      const held = [gone, holding(stuck, { epoch: 9, vm: 'absent' })];
      expect(await outcomes(await find(held))).toEqual(
        expect.arrayContaining(['epoch_behind repaired', 'run_lost repaired']),
      );
      expect(temporal.repairs.at(-1)).toMatchObject({ ifEpoch: 9, sandbox: { id: stuck } });
    });
  });

  describe('a row that is older than its host becomes what the host shows:', () => {
    it('running, where it was paused when the database was saved', async () => {
      const sandboxId = await sandboxes.paused({ timeoutSeconds: 60 });
      const found = await find([holding(sandboxId, { epoch: 5 })]);
      expect(await outcomes(found)).toEqual(['epoch_behind repaired']);
      expect(await outcomes(found)).toEqual(['epoch_behind repaired']);
      expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'running', epoch: 5, pausedAt: null });
      expect((await sandboxes.row(sandboxId)).expiresAt).not.toBeNull();
      expect(temporal.armed).toContain(sandboxId);
      expect(await kinds([holding(sandboxId, { epoch: 5 })])).toEqual([]);
    });

    it('paused with its newest memory, where it ran', async () => {
      const sandboxId = await sandboxes.running({ timeoutSeconds: 60 });
      const held = holding(sandboxId, { epoch: 6, vm: 'absent', snapshots: [6] });
      expect(await outcomes(await find([held]))).toEqual(['epoch_behind repaired']);
      expect(await sandboxes.row(sandboxId)).toMatchObject({
        ...{ state: 'paused', generation: 6, epoch: 6, expiresAt: null },
      });
      expect(temporal.repairs).toEqual([]);
      expect(await kinds([held])).toEqual([]);
    });

    it('and an operation that nobody carries on any more is closed', async () => {
      const { sandboxId, opId } = await sandboxes.pausing();
      const held = holding(sandboxId, { epoch: 6 });
      expect(await outcomes(await find([held]))).toEqual(['epoch_behind repaired']);
      expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'running', epoch: 6 });
      expect(await sandboxes.operation(opId)).toMatchObject({
        state: 'cancelled',
        failure: { code: 'stale_operation' },
      });
      expect(await kinds([held])).toEqual([]);
    });
  });

  describe('keeper_missing', () => {
    it('is a timeout that nobody keeps; the keeper is started', async () => {
      const sandboxId = await sandboxes.running({ timeoutSeconds: 60 });
      const found = await find([holding(sandboxId)]);
      expect(found.map(({ kind }) => kind)).toEqual(['keeper_missing']);
      expect(await outcomes(found)).toEqual(['keeper_missing repaired']);
      expect(temporal.armed).toEqual([sandboxId]);
      expect(await kinds([holding(sandboxId)])).toEqual([]);
    });

    it('is not one that only the list does not show, nor one that is just being started', async () => {
      const sandboxId = await sandboxes.running({ timeoutSeconds: 60 });
      temporal.open.add(ttlWorkflowId(sandboxId));
      temporal.listed = false;
      expect(await kinds([holding(sandboxId)])).toEqual([]);
      temporal.open.delete(ttlWorkflowId(sandboxId));
      temporal.open.add(sandboxWorkflowId(sandboxId));
      expect(await kinds([holding(sandboxId)])).toEqual([]);
    });

    it('is not that of a sandbox that was paused meanwhile', async () => {
      const sandboxId = await sandboxes.running({ timeoutSeconds: 60 });
      temporal.meanwhile = async (id) => {
        if (id !== ttlWorkflowId(sandboxId)) return;
        await activities.claim({ opId: 'p1', sandboxId, teamId: 'team', runId: 'p1', kind: 'pause' });
      };
      expect(await kinds([holding(sandboxId)])).toEqual([]);
    });
  });

  describe('of the host itself', () => {
    it('watch_missing: its lease is watched again', async () => {
      temporal.open.clear();
      const found = await find([]);
      expect(found.map(({ kind }) => kind)).toEqual(['watch_missing']);
      expect(await outcomes(found)).toEqual(['watch_missing repaired']);
      expect(await kinds([])).toEqual([]);
    });

    it('host_silent: what ran there is missing', async () => {
      const sandboxId = await sandboxes.running();
      await silence(22);
      // Its watch looks a moment later.
      expect(await kinds(null)).toEqual([]);
      await silence(30);
      const found = await find(null);
      expect(found).toMatchObject([{ kind: 'host_silent', before: { sandboxes: 1 } }]);
      expect(await repair(found)).toMatchObject([{ outcome: 'repaired', after: { missing: 1 } }]);
      expect(await state(sandboxId)).toBe('missing');
      expect(await kinds(null)).toEqual([]);
      expect(await activities.surveyHosts()).toEqual([{ id: 'h1', online: false }]);
    });

    it('host_silent: but for one that has answered since', async () => {
      const sandboxId = await sandboxes.running();
      await silence(30);
      const found = await find(null);
      await silence(0);
      expect(await outcomes(found)).toEqual(['host_silent kept']);
      expect(await state(sandboxId)).toBe('running');
    });

    it('host_unasked: nothing is concluded from that', async () => {
      await sandboxes.running();
      const found = await find(null);
      expect(found.map(({ kind }) => kind)).toEqual(['host_unasked']);
      expect(await outcomes(found)).toEqual(['host_unasked kept']);
    });
  });
});
