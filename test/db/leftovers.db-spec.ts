import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import type { Holding } from '../../activities/host/contract.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import { HostRepository } from '../../api/host/host.repository.js';
import { ReconcileLogRepository } from '../../api/ops/reconcile-log.repository.js';
import type { Finding, Reconciled } from '../../workflows/contract/findings.js';
import { buildWorkflowId, hostWatchWorkflowId } from '../../workflows/contract/ids.js';
import { clear, FakeControlTemporal, holding, SandboxRows } from './control-rig.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

const GRACE_SECONDS = 300;

describe('what a reconciliation remembers in the database', () => {
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
    activities = createControlActivities(store, temporal, () => new Date(), GRACE_SECONDS);
    sandboxes = new SandboxRows(database.dataSource, activities);
  });

  const sql = <T = unknown>(text: string, ...values: unknown[]): Promise<T[]> =>
    database.dataSource.query<T[]>(text, values);
  const find = async (holdings: Holding[] | null): Promise<Finding[]> => {
    const before = await activities.surveySandboxes({ hostId: 'h1' });
    return activities.compareHost({ hostId: 'h1', before, holdings });
  };
  const record = (findings: Reconciled[], runId: string) => activities.recordFindings({ runId, findings });

  describe('what nobody owns', () => {
    const stopped = async (): Promise<string> => {
      const sandboxId = await sandboxes.running();
      const opId = `d-${sandboxId}`;
      const { epoch } = await activities.claim({ opId, sandboxId, teamId: 'team', runId: opId, kind: 'destroy' });
      await activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'stopped' });
      return sandboxId;
    };
    const build = (id: string, buildState: 'running' | 'failed') =>
      sql(
        `INSERT INTO template_builds (id, team_id, template_id, image, vcpus, memory_mb, setup, state, host_id, epoch, run_id, finished_at)
         VALUES ($1, 'team', 'minimal', 'minimal', 1, 512, '[]', $2, 'h1', 1, 'r', CASE WHEN $2 = 'failed' THEN now() END)`,
        id,
        buildState,
      );
    const ripe = (findings: Finding[], unknown = false) => activities.ripeOrphans({ findings, unknown });
    const age = (seconds: number) =>
      sql(`UPDATE host_orphans SET first_seen_at = now() - make_interval(secs => $1)`, seconds);

    it('is told apart: ended, elsewhere, never known, and still owned', async () => {
      const [gone, moved] = [await stopped(), await sandboxes.running()];
      await insertHost(database.dataSource, 'h2');
      await sql(`UPDATE sandboxes SET host_id = 'h2' WHERE id = $1`, moved);
      await build('built', 'failed');
      await build('building', 'running');
      temporal.open.add(buildWorkflowId('building'));
      const hosts = new HostRepository(database.dataSource);
      const verdicts = await hosts.verdicts('h1', [gone, moved, 'built', 'building', 'never', 'no such\0id']);
      expect(Object.fromEntries(verdicts)).toEqual({
        ...{ [gone]: 'ended', [moved]: 'ended', built: 'ended', building: 'live', never: 'unknown' },
        'no such\0id': 'unknown',
      });
      expect((await hosts.verdicts('h2', [moved])).get(moved)).toBe('live');
      const holdings = [gone, moved, 'built', 'building', 'never'].map((id) => holding(id));
      const found = await find(holdings);
      expect(found.map(({ kind, sandboxId }) => [kind, sandboxId])).toEqual([
        ['orphan', gone],
        ['orphan', moved],
        ['orphan', 'built'],
        ['unknown', 'never'],
      ]);
      // Its row closes before its run has tidied up.
      temporal.open.add(buildWorkflowId('built'));
      expect((await find(holdings)).map(({ sandboxId }) => sandboxId)).not.toContain('built');
    });

    it('is removed after its grace period, and starts anew when it was gone in between', async () => {
      const id = await stopped();
      const first = await find([holding(id)]);
      expect(await ripe(first)).toMatchObject({
        ripe: [],
        waiting: [{ kind: 'orphan', outcome: 'waiting', after: { removed_in_seconds: GRACE_SECONDS } }],
      });
      await age(GRACE_SECONDS - 1);
      expect((await ripe(await find([holding(id)]))).ripe).toEqual([]);
      await age(GRACE_SECONDS);
      expect(await ripe(await find([holding(id)]))).toEqual({ ripe: [id], waiting: [] });
      // A host that could not be asked has not said that it is gone.
      await find(null);
      expect((await ripe(first)).ripe).toEqual([id]);
      await find([]);
      expect((await ripe(await find([holding(id)]))).ripe).toEqual([]);
    });

    it('and was never known is kept until somebody says so, and then needs no second wait', async () => {
      const found = await find([holding('never')]);
      expect(await ripe(found)).toEqual({ ripe: [], waiting: [] });
      await age(GRACE_SECONDS);
      expect(await ripe(found)).toEqual({ ripe: [], waiting: [] });
      expect(await ripe(found, true)).toEqual({ ripe: ['never'], waiting: [] });
    });
  });

  it('writes what was found once, to the log and to the events of what has a row', async () => {
    const sandboxId = await sandboxes.running();
    const mended: Reconciled = {
      ...{ kind: 'vm_lost', hostId: 'h1', sandboxId, epoch: 1, before: { state: 'running', vm: 'absent' } },
      ...{ outcome: 'repaired', after: { operation: 'op-x', kind: 'recover' } },
    };
    const kept: Reconciled = {
      ...{ kind: 'unknown', hostId: 'h1', sandboxId: 'never', epoch: null, before: { vm: 'absent', snapshots: [] } },
      ...{ outcome: 'kept', after: {} },
    };
    await record([mended, kept], 'run-a');
    await record([mended, kept], 'run-a');
    // The next minute's run finds the same: what it mends is told, what it keeps only again after an hour.
    await record([mended, { ...kept, after: { removed_in_seconds: 1 } }], 'run-b');
    const log = new ReconcileLogRepository(database.dataSource);
    const logged = await log.list(10, null);
    expect(logged.map(({ runId, kind }) => `${runId} ${kind}`).toSorted()).toEqual([
      'run-a unknown',
      'run-a vm_lost',
      'run-b vm_lost',
    ]);
    expect((await log.list(10, logged[0]?.id ?? null)).map(({ id }) => id)).toEqual(
      logged.slice(1).map(({ id }) => id),
    );
    const told = (await sandboxes.events(sandboxId)).filter(({ type }) => type === 'reconciled');
    expect(told).toHaveLength(2);
    expect(told[0]?.data).toEqual({
      finding: 'vm_lost',
      outcome: 'repaired',
      before: mended.before,
      after: mended.after,
    });

    await sql('ALTER TABLE reconcile_log DISABLE TRIGGER ALL');
    await sql(`UPDATE reconcile_log SET at = now() - interval '61 minutes'`);
    await sql('ALTER TABLE reconcile_log ENABLE TRIGGER ALL');
    await record([kept], 'run-c');
    expect(await log.list(10, null)).toHaveLength(4);
    await expect(sql('DELETE FROM reconcile_log')).rejects.toThrow('append-only');
  });
});
