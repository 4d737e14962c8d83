import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import { HostEntity } from '../../api/host/host.entity.js';
import { OperationRequestEntity } from '../../api/operation/operation-request.entity.js';
import { OperationEntity } from '../../api/operation/operation.entity.js';
import { SandboxRepository } from '../../api/sandbox/sandbox.repository.js';
import { SandboxSecretEntity } from '../../api/sandbox/sandbox-secret.entity.js';
import { SandboxEntity } from '../../api/sandbox/sandbox.entity.js';
import type { CreateSandboxInput, SandboxSpec } from '../../workflows/contract/operations.js';
import { clear, FakeControlTemporal, SPEC } from './control-rig.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

const TEMPORAL = new FakeControlTemporal();
const SNAPSHOT = { generation: 2, memoryBytes: 1000, frozenMs: 5 };

describe('lifecycle in the database', () => {
  let database: TestDatabase;
  let activities: ControlActivities;
  let now: Date;
  let count = 0;

  beforeAll(async () => {
    database = await startDatabase();
    activities = createControlActivities(new ControlRepository(database.dataSource), TEMPORAL, () => now);
    await database.dataSource.query(`INSERT INTO teams (id, name) VALUES ('team', 'Team'), ('other', 'Other')`);
  });
  afterAll(() => database.stop());

  beforeEach(async () => {
    now = new Date('2030-01-01T00:00:00Z');
    await clear(database.dataSource);
  });

  const addHost = (id: string, changes: Partial<HostEntity> = {}): Promise<void> =>
    insertHost(database.dataSource, id, changes);

  function create(
    changes: Partial<CreateSandboxInput & { runId: string }> = {},
  ): CreateSandboxInput & { runId: string } {
    count += 1;
    return {
      opId: `op${count}`,
      sandboxId: `sbx${count}`,
      teamId: 'team',
      runId: `run${count}`,
      spec: SPEC,
      ...changes,
    };
  }

  async function running(spec: Partial<SandboxSpec> = {}): Promise<string> {
    const input = create({ spec: { ...SPEC, ...spec } });
    const { epoch } = await activities.claimAndPlace(input);
    const { sandboxId, opId } = input;
    await activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'running' });
    return sandboxId;
  }

  async function paused(spec: Partial<SandboxSpec> = {}): Promise<string> {
    const sandboxId = await running(spec);
    const opId = `pause-${sandboxId}`;
    const { epoch } = await activities.claim({ opId, sandboxId, teamId: 'team', runId: opId, kind: 'pause' });
    await activities.recordGeneration({ sandboxId, epoch, snapshot: SNAPSHOT });
    await activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'paused' });
    return sandboxId;
  }

  const row = (id: string): Promise<SandboxEntity> =>
    database.dataSource.manager.findOneByOrFail(SandboxEntity, { id });
  const operationRow = (id: string): Promise<OperationEntity> =>
    database.dataSource.manager.findOneByOrFail(OperationEntity, { id });
  const events = async (sandboxId: string): Promise<string[]> => {
    const rows = await database.dataSource.query<{ type: string }[]>(
      'SELECT type FROM sandbox_events WHERE sandbox_id = $1 ORDER BY id',
      [sandboxId],
    );
    return rows.map(({ type }) => type);
  };

  it('creates, pauses, resumes and destroys; the row follows', async () => {
    await addHost('h1');
    const sandboxId = await paused({ timeoutSeconds: 60 });
    expect(await row(sandboxId)).toMatchObject({
      state: 'paused',
      epoch: 2,
      generation: 2,
      hostId: 'h1',
      expiresAt: null,
    });

    const resume = { opId: `r-${sandboxId}`, sandboxId, teamId: 'team', runId: 'r', kind: 'resume' } as const;
    const claim = await activities.claim(resume);
    expect(claim).toEqual({
      ...{ epoch: 3, hostId: 'h1', vcpus: 1, memoryMb: 512, generation: 2 },
      ...{ egress: true, network: { egress: true } },
    });
    await activities.settle({ sandboxId, opId: resume.opId, epoch: 3, operation: 'succeeded', sandbox: 'running' });
    expect(await row(sandboxId)).toMatchObject({
      state: 'running',
      expiresAt: new Date(now.getTime() + 60_000),
      startedAt: now,
    });

    await database.dataSource.manager.insert(SandboxSecretEntity, {
      id: sandboxId,
      teamId: 'team',
      accessToken: 't',
      env: {},
    });
    // A request that came twice may be refused because of what the first has made.
    await new SandboxRepository(database.dataSource).removeUntakenSecret(sandboxId);
    expect(await database.dataSource.manager.countBy(SandboxSecretEntity, { id: sandboxId })).toBe(1);
    const destroy = {
      opId: `d-${sandboxId}`,
      sandboxId,
      teamId: 'team',
      runId: 'd',
      kind: 'destroy',
      reason: 'requested',
    } as const;
    await activities.claim(destroy);
    await activities.settle({ sandboxId, opId: destroy.opId, epoch: 4, operation: 'succeeded', sandbox: 'stopped' });
    expect(await row(sandboxId)).toMatchObject({ state: 'stopped', stoppedAt: now, expiresAt: null });
    expect(await database.dataSource.manager.countBy(SandboxSecretEntity, { id: sandboxId })).toBe(0);
    expect(await events(sandboxId)).toEqual([
      'create.started',
      'create.succeeded',
      'pause.started',
      'snapshot.recorded',
      'pause.succeeded',
      'resume.started',
      'resume.succeeded',
      'destroy.started',
      'destroy.succeeded',
    ]);
  });

  it('lets exactly one of many parallel claims win', async () => {
    await addHost('h1');
    const sandboxId = await running();
    const claims = Array.from({ length: 12 }, (_, i) =>
      activities.claim({ opId: `p${i}`, sandboxId, teamId: 'team', runId: `pr${i}`, kind: 'pause' }),
    );
    const results = await Promise.allSettled(claims);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected')
        expect(result.reason).toMatchObject({ type: 'state_conflict', nonRetryable: true });
    }
    expect(await row(sandboxId)).toMatchObject({ state: 'pausing', epoch: 2 });
  });

  it('answers the same run the same, and another run with the same operation not at all', async () => {
    await addHost('h1');
    await addHost('h2');
    const input = create();
    const first = await activities.claimAndPlace(input);
    expect(await activities.claimAndPlace(input)).toEqual(first);
    await expect(activities.claimAndPlace({ ...input, runId: 'reset' })).rejects.toMatchObject({
      type: 'stale_operation',
    });

    const { sandboxId, opId } = input;
    await activities.settle({ sandboxId, opId, epoch: 1, operation: 'succeeded', sandbox: 'running' });
    await expect(activities.claimAndPlace(input)).rejects.toMatchObject({ type: 'stale_operation' });

    const pause = { opId: 'pause', sandboxId, teamId: 'team', runId: 'a', kind: 'pause' } as const;
    const claim = await activities.claim(pause);
    expect(await activities.claim(pause)).toEqual(claim);
    await expect(activities.claim({ ...pause, runId: 'b' })).rejects.toMatchObject({ type: 'stale_operation' });
    expect(await row(sandboxId)).toMatchObject({ epoch: 2 });
  });

  it('never promises more memory than a host has, however many ask at once', async () => {
    await addHost('h1', { memoryMb: 2048 });
    await addHost('h2', { memoryMb: 1100 });
    const results = await Promise.allSettled(Array.from({ length: 15 }, () => activities.claimAndPlace(create())));
    const placed = results.filter((result) => result.status === 'fulfilled').map((result) => result.value.hostId);
    expect(placed.toSorted()).toEqual(['h1', 'h1', 'h1', 'h1', 'h2', 'h2']);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ type: 'no_hosts_available' });
    }
    expect(await database.dataSource.manager.count(SandboxEntity)).toBe(6);
  });

  it('takes memory back from paused sandboxes and asks for it again on resume', async () => {
    await addHost('h1', { memoryMb: 600 });
    const first = await paused();
    const second = await running();
    const resume = { sandboxId: first, teamId: 'team', kind: 'resume' } as const;
    await expect(activities.claim({ ...resume, opId: 'r1', runId: 'r1' })).rejects.toMatchObject({
      type: 'no_hosts_available',
    });
    expect(await row(first)).toMatchObject({ state: 'paused', epoch: 2 });

    const { epoch } = await activities.claim({
      opId: 'd',
      sandboxId: second,
      teamId: 'team',
      runId: 'd',
      kind: 'destroy',
    });
    await activities.settle({ sandboxId: second, opId: 'd', epoch, operation: 'succeeded', sandbox: 'stopped' });
    expect(await activities.claim({ ...resume, opId: 'r2', runId: 'r2' })).toMatchObject({ epoch: 3 });
  });

  it('places nothing on hosts that fell silent', async () => {
    await addHost('h1', { heartbeatAt: new Date(Date.now() - 31_000) });
    await expect(activities.claimAndPlace(create())).rejects.toMatchObject({
      type: 'no_hosts_available',
      message: 'no host is online',
    });
  });

  it('moves a create to another host once, even when asked twice', async () => {
    await addHost('h1');
    await addHost('h2');
    const input = create();
    const first = await activities.claimAndPlace(input);
    const away = { sandboxId: input.sandboxId, epoch: 1, notHosts: [first.hostId] };
    const second = await activities.placeElsewhere(away);
    expect(second.hostId).not.toBe(first.hostId);
    expect(await activities.placeElsewhere(away)).toEqual(second);
    await expect(activities.placeElsewhere({ ...away, notHosts: ['h1', 'h2'] })).rejects.toMatchObject({
      type: 'no_hosts_available',
    });
  });

  it('refuses whatever an older epoch still sends', async () => {
    await addHost('h1');
    const sandboxId = await running();
    await activities.claim({ opId: 'p', sandboxId, teamId: 'team', runId: 'p', kind: 'pause' });
    await activities.claim({ opId: 'd', sandboxId, teamId: 'team', runId: 'd', kind: 'destroy' });
    const stale = { type: 'stale_operation', nonRetryable: true };
    await expect(activities.recordGeneration({ sandboxId, epoch: 2, snapshot: SNAPSHOT })).rejects.toMatchObject(stale);
    const settle = { sandboxId, opId: 'p', epoch: 2, operation: 'succeeded', sandbox: 'paused' } as const;
    await expect(activities.settle(settle)).rejects.toMatchObject(stale);
    // The pause was still open when the destroy came, which only happens when its run was ended from outside.
    expect(await operationRow('p')).toMatchObject({ state: 'cancelled', failure: { code: 'stale_operation' } });
    expect(await row(sandboxId)).toMatchObject({ state: 'stopping', epoch: 3, generation: 0 });
  });

  it('settles once; again is the same, differently is stale', async () => {
    await addHost('h1');
    const sandboxId = await running();
    await activities.claim({ opId: 'p', sandboxId, teamId: 'team', runId: 'p', kind: 'pause' });
    const failure = { step: 'snapshotVm', code: 'disk_full', message: 'no space on h1' } as const;
    const settle = { sandboxId, opId: 'p', epoch: 2, operation: 'failed', sandbox: 'running', failure } as const;
    await activities.settle(settle);
    await activities.settle(settle);
    expect(await row(sandboxId)).toMatchObject({
      state: 'running',
      failure: { operationId: 'p', step: 'snapshotVm', code: 'disk_full', at: now.toISOString() },
    });
    expect(await operationRow('p')).toMatchObject({ state: 'failed', step: 'snapshotVm', finishedAt: now });
    await expect(activities.settle({ ...settle, operation: 'succeeded', sandbox: 'paused' })).rejects.toMatchObject({
      type: 'stale_operation',
    });
    expect((await events(sandboxId)).filter((type) => type === 'pause.failed')).toHaveLength(1);
  });

  it('keeps the deadline of a sandbox that could not be paused', async () => {
    await addHost('h1');
    const sandboxId = await running({ timeoutSeconds: 60 });
    const deadline = (await row(sandboxId)).expiresAt;
    now = new Date(now.getTime() + 61_000);
    await activities.claim({ opId: 'p', sandboxId, teamId: 'team', runId: 'p', kind: 'pause' });
    const failure = { step: 'snapshotVm', code: 'disk_full', message: 'no space' } as const;
    await activities.settle({ sandboxId, opId: 'p', epoch: 2, operation: 'failed', sandbox: 'running', failure });
    expect((await row(sandboxId)).expiresAt).toEqual(deadline);
    expect(await activities.readDeadline({ sandboxId })).toEqual({
      state: 'running',
      expiresAt: deadline?.getTime(),
      onTimeout: 'pause',
    });
  });

  it('refuses moves that the table of states does not have', async () => {
    await addHost('h1');
    const input = create();
    await activities.claimAndPlace(input);
    const { sandboxId, opId } = input;
    await expect(
      activities.settle({ sandboxId, opId, epoch: 1, operation: 'succeeded', sandbox: 'paused' }),
    ).rejects.toMatchObject({ type: 'state_conflict' });
    await expect(
      activities.claim({ opId: 'x', sandboxId, teamId: 'team', runId: 'x', kind: 'resume' }),
    ).rejects.toMatchObject({
      type: 'state_conflict',
      details: [{ state: 'starting', operation: { id: opId, kind: 'create' } }],
    });
  });

  it('hides the sandboxes and templates of other teams', async () => {
    await addHost('h1');
    const sandboxId = await running();
    await expect(
      activities.claim({ opId: 'x', sandboxId, teamId: 'other', runId: 'x', kind: 'destroy' }),
    ).rejects.toMatchObject({ type: 'not_found' });
    await database.dataSource.query(
      `INSERT INTO templates (id, team_id, name, image, vcpus, memory_mb) VALUES ('theirs', 'other', 'theirs', 'minimal', 1, 512)
       ON CONFLICT DO NOTHING`,
    );
    await expect(activities.claimAndPlace(create({ spec: { ...SPEC, templateId: 'theirs' } }))).rejects.toMatchObject({
      type: 'not_found',
    });
  });

  it('remembers which operation a new one repeats', async () => {
    await addHost('h1');
    const sandboxId = await running();
    await activities.claim({ opId: 'p1', sandboxId, teamId: 'team', runId: 'p1', kind: 'pause' });
    const failure = { step: 'quiesceGuest', code: 'guest_unavailable', message: 'no answer' } as const;
    await activities.settle({ sandboxId, opId: 'p1', epoch: 2, operation: 'failed', sandbox: 'running', failure });
    await database.dataSource.manager.insert(OperationRequestEntity, {
      opId: 'p2',
      teamId: 'team',
      route: 'retry',
      requestHash: '',
      retryOf: 'p1',
    });
    await activities.claim({ opId: 'p2', sandboxId, teamId: 'team', runId: 'p2', kind: 'pause' });
    expect(await operationRow('p2')).toMatchObject({ retryOf: 'p1', epoch: 3 });
  });

  it('restores from a ready build, and boots cold from its disk where the size differs', async () => {
    await addHost('h1');
    await addHost('h2');
    const build = { templateId: 'minimal', teamId: 'platform', vcpus: 1, memoryMb: 512, image: 'minimal', setup: [] };
    const { hostId } = await activities.beginBuild({ ...build, buildId: 'b1', runId: 'b1' });
    await activities.appendBuildLog({ buildId: 'b1', step: 1, text: 'hello\0' });
    await activities.appendBuildLog({ buildId: 'b1', step: 1, text: 'hello\0' });
    const artefact = { memoryBytes: 1, diskBytes: 1, hypervisor: 'qemu 7.2', cpu: 'max' };
    await activities.finishBuild({ buildId: 'b1', state: 'ready', artefact });
    await activities.finishBuild({ buildId: 'b1', state: 'ready', artefact });
    const logs = await database.dataSource.query<unknown[]>(`SELECT text FROM build_logs WHERE build_id = 'b1'`);
    expect(logs).toEqual([{ text: 'hello\u{FFFD}' }]);

    const source = { kind: 'build', buildId: 'b1' };
    expect(await activities.claimAndPlace(create())).toMatchObject({ hostId, disk: source, boot: source });
    expect(await activities.claimAndPlace(create({ spec: { ...SPEC, memoryMb: 256 } }))).toMatchObject({
      hostId,
      disk: source,
      boot: { kind: 'cold' },
    });
    expect(await activities.claimAndPlace(create({ spec: { ...SPEC, cold: true } }))).toMatchObject({
      hostId,
      disk: source,
      boot: { kind: 'cold' },
    });

    await database.dataSource.manager.update(HostEntity, { id: hostId }, { hypervisorVersion: '10.0' });
    expect(await activities.claimAndPlace(create())).toMatchObject({ disk: source, boot: { kind: 'cold' } });
  });

  it('tells an outage of the database from a refusal', async () => {
    const broken = new ControlRepository(await startClosed(database));
    const cut = createControlActivities(broken, TEMPORAL);
    await expect(cut.readDeadline({ sandboxId: 'x' })).rejects.toMatchObject({ nonRetryable: false });
  });
});

/** A data source whose server has gone away. */
async function startClosed({ dataSource }: TestDatabase): Promise<TestDatabase['dataSource']> {
  const { DataSource } = await import('typeorm');
  const other = await new DataSource({ ...dataSource.options }).initialize();
  await other.destroy();
  return other;
}
