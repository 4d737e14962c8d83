import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import { ControlPlaneBeat } from '../../api/host/control-plane-beat.js';
import { HostEntity } from '../../api/host/host.entity.js';
import { HostRepository } from '../../api/host/host.repository.js';
import { clear, FakeControlTemporal, listen, SandboxRows } from './control-rig.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

describe('the lease of a host', () => {
  let database: TestDatabase;
  let activities: ControlActivities;
  let sandboxes: SandboxRows;
  let hosts: HostRepository;
  let beat: ControlPlaneBeat;

  beforeAll(async () => {
    database = await startDatabase();
    const { dataSource } = database;
    activities = createControlActivities(new ControlRepository(dataSource), new FakeControlTemporal());
    sandboxes = new SandboxRows(dataSource, activities);
    hosts = new HostRepository(dataSource);
    beat = new ControlPlaneBeat(dataSource);
    await dataSource.query(`INSERT INTO teams (id, name) VALUES ('team', 'Team')`);
  });
  afterAll(() => database.stop());

  beforeEach(async () => {
    await clear(database.dataSource);
    await insertHost(database.dataSource, 'h1', { memoryMb: 4096, vcpus: 8 });
  });

  const check = (hostId = 'h1') => activities.checkLease({ hostId });
  const silentFor = (seconds: number, hostId = 'h1') =>
    database.dataSource.query(`UPDATE hosts SET heartbeat_at = now() - make_interval(secs => $2) WHERE id = $1`, [
      hostId,
      seconds,
    ]);
  const hear = (hostId = 'h1') => silentFor(0, hostId);
  const apiAwayFor = (seconds: number) =>
    database.dataSource.query(`UPDATE control_plane SET beat_at = now() - make_interval(secs => $1)`, [seconds]);
  const host = (id = 'h1') => database.dataSource.manager.findOneByOrFail(HostEntity, { id });
  const state = async (id: string) => (await sandboxes.row(id)).state;

  it('is held while heartbeats come, and says when to look again', async () => {
    await silentFor(5);
    const lease = await check();
    expect(lease).toMatchObject({ state: 'held' });
    const { checkInMs } = lease as { checkInMs: number };
    expect(checkInMs).toBeGreaterThan(14_000);
    expect(checkInMs).toBeLessThan(15_500);
    expect(await check('nobody')).toEqual({ state: 'gone' });
  });

  it('runs out: what ran there is missing, with an event each, and nothing else is touched', async () => {
    const [running, paused] = [await sandboxes.running({ timeoutSeconds: 600 }), await sandboxes.paused()];
    const pausing = await sandboxes.pausing();
    await insertHost(database.dataSource, 'h2', { memoryMb: 65_536, vcpus: 64 });
    const elsewhere = await sandboxes.running({ memoryMb: 2048 });
    expect((await sandboxes.row(elsewhere)).hostId).toBe('h2');
    const before = await sandboxes.row(running);
    await silentFor(21);
    expect(await check()).toEqual({ state: 'lost', checkInMs: 5000 });

    expect(await Promise.all([running, pausing.sandboxId, paused, elsewhere].map(state))).toEqual([
      'missing',
      'missing',
      'paused',
      'running',
    ]);
    expect(await sandboxes.row(running)).toMatchObject({ epoch: before.epoch, expiresAt: before.expiresAt });
    expect((await sandboxes.events(running)).at(-1)).toEqual({
      type: 'host.lost',
      data: { host_id: 'h1', silent_since: (await host()).heartbeatAt.toISOString(), was: 'running' },
    });
    expect((await host()).lostAt).not.toBeNull();
    // The operation that is open says more than that its host is away.
    const { sandboxId, opId, epoch } = pausing;
    expect(await sandboxes.operation(opId)).toMatchObject({ state: 'running' });
    await activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'paused' });
    expect(await state(sandboxId)).toBe('paused');
  });

  it('tells each sandbox once, and later takes back only what an operation has called running since', async () => {
    const [first, second] = [await sandboxes.running(), await sandboxes.pausing()];
    await silentFor(25);
    await check();
    const failure = { step: 'snapshotVm', code: 'host_unavailable', message: 'away' } as const;
    const { sandboxId, opId, epoch } = second;
    await activities.settle({ sandboxId, opId, epoch, operation: 'failed', sandbox: 'running', failure });
    await check();
    await check();
    const lost = async (id: string) => (await sandboxes.events(id)).filter(({ type }) => type === 'host.lost').length;
    expect([await lost(first), await lost(sandboxId)]).toEqual([1, 2]);
    expect(await state(sandboxId)).toBe('missing');
  });

  it('comes back with a heartbeat, and the loss ends when that has been dealt with', async () => {
    await silentFor(30);
    await check();
    await hear();
    expect([await check(), await check()]).toEqual([{ state: 'returned' }, { state: 'returned' }]);
    await activities.endLoss({ hostId: 'h1' });
    expect(await check()).toMatchObject({ state: 'held' });
    expect((await host()).lostAt).toBeNull();
  });

  it('stays lost when it falls silent again before that', async () => {
    await silentFor(30);
    await check();
    await hear();
    await check();
    await silentFor(30);
    await activities.endLoss({ hostId: 'h1' });
    expect((await host()).lostAt).not.toBeNull();
    expect(await check()).toMatchObject({ state: 'lost' });
  });

  it('is what decides where a create goes', async () => {
    await insertHost(database.dataSource, 'h2');
    await silentFor(21);
    expect(await activities.claimAndPlace(sandboxes.create())).toMatchObject({ hostId: 'h2' });
    await silentFor(21, 'h2');
    await expect(activities.claimAndPlace(sandboxes.create())).rejects.toMatchObject({ type: 'no_hosts_available' });
    expect(await hosts.countOnline()).toEqual({ online: 0, known: 2 });
    await hear('h2');
    expect(await hosts.onlineOf(['h1', 'h2'])).toEqual(new Set(['h2']));
  });

  describe('when nobody could have heard it', () => {
    it('does not run out, however long no API listens', async () => {
      const sandboxId = await sandboxes.running();
      await silentFor(3600);
      await apiAwayFor(3598);
      expect(await check()).toEqual({ state: 'held', checkInMs: 5000 });
      expect(await state(sandboxId)).toBe('running');
    });

    it('is a whole one again after the outage, and then runs out like any other', async () => {
      const sandboxId = await sandboxes.running();
      await silentFor(600);
      await apiAwayFor(598);
      await beat.beat();
      expect(await check()).toMatchObject({ state: 'held' });
      await database.dataSource.query(`UPDATE control_plane SET up_since = now() - interval '21 seconds'`);
      expect(await check()).toMatchObject({ state: 'lost' });
      expect(await state(sandboxId)).toBe('missing');
    });

    it('is not given to a host that was lost before the outage', async () => {
      await silentFor(600);
      await check();
      await apiAwayFor(300);
      await beat.beat();
      expect(await check()).toMatchObject({ state: 'lost' });
    });

    it('is not given for the pause between two beats', async () => {
      const { dataSource } = database;
      await listen(dataSource);
      await apiAwayFor(6);
      await beat.beat();
      await silentFor(21);
      expect(await check()).toMatchObject({ state: 'lost' });
    });
  });
});
