import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import type { RecoverSandboxInput } from '../../workflows/contract/operations.js';
import { clear, FakeControlTemporal, SandboxRows } from './control-rig.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

describe('a recovery in the database', () => {
  let database: TestDatabase;
  let activities: ControlActivities;
  let sandboxes: SandboxRows;
  let now: Date;
  let count = 0;

  beforeAll(async () => {
    database = await startDatabase();
    const store = new ControlRepository(database.dataSource);
    activities = createControlActivities(store, new FakeControlTemporal(), () => now);
    sandboxes = new SandboxRows(database.dataSource, activities);
    await database.dataSource.query(`INSERT INTO teams (id, name) VALUES ('team', 'Team'), ('other', 'Other')`);
  });
  afterAll(() => database.stop());

  beforeEach(async () => {
    now = new Date('2030-01-01T00:00:00Z');
    await clear(database.dataSource);
    await insertHost(database.dataSource, 'h1', { memoryMb: 1100 });
  });

  function ask(sandboxId: string, changes: Partial<RecoverSandboxInput & { runId: string }> = {}) {
    count += 1;
    const ids = { opId: `recover${count}`, runId: `recovery${count}`, sandboxId, teamId: 'team' };
    return { ...ids, reason: 'requested', boot: true, discardMemory: false, ...changes };
  }
  const state = async (id: string) => (await sandboxes.row(id)).state;

  it('answers the same run the same, whatever it took over, and another run not at all', async () => {
    const { sandboxId, opId } = await sandboxes.pausing();
    const input = ask(sandboxId);
    const claim = await activities.claimRecovery(input);
    expect(claim).toMatchObject({ epoch: 3, hostId: 'h1', was: 'pausing', onMemoryLoss: 'reboot' });
    expect(claim.interrupted).toEqual({ kind: 'pause', epoch: 2 });
    expect(await activities.claimRecovery(input)).toEqual(claim);
    const stale = { type: 'stale_operation', nonRetryable: true };
    await expect(activities.claimRecovery({ ...input, runId: 'reset' })).rejects.toMatchObject(stale);
    expect(await sandboxes.operation(opId)).toMatchObject({ state: 'cancelled', failure: { code: 'stale_operation' } });
    expect(await sandboxes.operation(input.opId)).toMatchObject({ kind: 'recover', state: 'running', epoch: 3 });
    expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'missing', epoch: 3 });
  });

  it('is taken by exactly one of many that ask at once', async () => {
    const sandboxId = await sandboxes.missing();
    const asked = Array.from({ length: 10 }, () => activities.claimRecovery(ask(sandboxId, { ifEpoch: 1 })));
    const answers = await Promise.allSettled(asked);
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const answer of answers) {
      if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ type: 'state_conflict' });
    }
  });

  it('leaves alone what has moved on, has ended, is paused or is not theirs', async () => {
    const conflict = { type: 'state_conflict' };
    const running = await sandboxes.running();
    await expect(activities.claimRecovery(ask(running, { ifEpoch: 7 }))).rejects.toMatchObject(conflict);
    await expect(activities.claimRecovery(ask(running, { teamId: 'other' }))).rejects.toMatchObject({
      type: 'not_found',
    });
    const paused = await sandboxes.paused();
    await expect(activities.claimRecovery(ask(paused))).rejects.toMatchObject(conflict);
    const destroy = { opId: 'd', sandboxId: running, teamId: 'team', runId: 'd', kind: 'destroy' } as const;
    const { epoch } = await activities.claim(destroy);
    await expect(activities.claimRecovery(ask(running))).rejects.toMatchObject(conflict);
    await activities.settle({ sandboxId: running, opId: 'd', epoch, operation: 'succeeded', sandbox: 'stopped' });
    await expect(activities.claimRecovery(ask(running))).rejects.toMatchObject(conflict);
    expect([await state(running), await state(paused)]).toEqual(['stopped', 'paused']);
  });

  it('reserves memory again where none was held, and holds it while it finds out', async () => {
    const paused = await sandboxes.paused();
    await sandboxes.running();
    const other = await sandboxes.running();
    const recover = ask(paused, { discardMemory: true });
    await expect(activities.claimRecovery(recover)).rejects.toMatchObject({ type: 'no_hosts_available' });
    expect(await state(paused)).toBe('paused');
    const { epoch } = await activities.claim({
      ...{ opId: 'd2', sandboxId: other, teamId: 'team', runId: 'd2', kind: 'destroy' },
    });
    await activities.settle({ sandboxId: other, opId: 'd2', epoch, operation: 'succeeded', sandbox: 'stopped' });
    expect(await activities.claimRecovery(recover)).toMatchObject({ was: 'paused', interrupted: null });
    await expect(activities.claimAndPlace(sandboxes.create())).rejects.toMatchObject({ type: 'no_hosts_available' });
  });

  it('hands on what an earlier recovery had found and did not end', async () => {
    const { sandboxId, epoch } = await sandboxes.pausing();
    await activities.recordGeneration({
      ...{ sandboxId, epoch },
      snapshot: { generation: epoch, memoryBytes: 1, frozenMs: 1 },
    });
    const found = { was: 'pausing', interrupted: { kind: 'pause', epoch } };
    await activities.claimRecovery(ask(sandboxId));
    // Terminated: its row stays open.
    const second = ask(sandboxId);
    const again = await activities.claimRecovery(second);
    expect(again).toMatchObject({ ...found, again: true, generation: epoch });
    // Its host was away: it closed and left the sandbox as it had found it.
    const failure = { step: 'inspectSandbox', code: 'host_unavailable', message: 'away' } as const;
    const end = { sandboxId, opId: second.opId, epoch: again.epoch } as const;
    await activities.settle({ ...end, operation: 'failed', sandbox: 'missing', failure });
    const third = ask(sandboxId);
    expect(await activities.claimRecovery(third)).toMatchObject({ ...found, again: true });
    await activities.settle({ ...end, opId: third.opId, epoch: 5, operation: 'succeeded', sandbox: 'paused' });
    expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'paused', pausedAt: now });
    // That one did: nothing is handed on from here.
    expect(await activities.claimRecovery(ask(sandboxId, { discardMemory: true }))).toEqual(
      expect.objectContaining({ was: 'paused', interrupted: null }),
    );
  });

  it('takes over the resume that its host was too far away to undo', async () => {
    const sandboxId = await sandboxes.paused();
    const resume = { opId: 'r', sandboxId, teamId: 'team', runId: 'r', kind: 'resume' } as const;
    const { epoch } = await activities.claim(resume);
    await database.dataSource.query(`UPDATE sandboxes SET state = 'missing' WHERE id = $1`, [sandboxId]);
    const failure = { step: 'startVm', code: 'host_unavailable', message: 'away' } as const;
    await activities.settle({ sandboxId, opId: 'r', epoch, operation: 'failed', sandbox: 'missing', failure });
    expect(await activities.claimRecovery(ask(sandboxId))).toMatchObject({ interrupted: { kind: 'resume', epoch } });
  });

  it('leaves a sandbox that was alive as it was, and begins one anew whose memory was lost', async () => {
    const sandboxId = await sandboxes.missing({ timeoutSeconds: 60 });
    const before = await sandboxes.row(sandboxId);
    now = new Date(now.getTime() + 30_000);
    const alive = ask(sandboxId);
    await activities.claimRecovery(alive);
    const end = { sandboxId, operation: 'succeeded', sandbox: 'running' } as const;
    await activities.settle({ ...end, opId: alive.opId, epoch: 2 });
    const { startedAt, expiresAt } = before;
    expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'running', startedAt, expiresAt, memoryLost: null });

    const booted = ask(sandboxId);
    await activities.claimRecovery(booted);
    const settled = { ...end, opId: booted.opId, epoch: 3, memoryLost: { reason: 'its VM was gone' } };
    await activities.settle(settled);
    await activities.settle(settled);
    const memoryLost = { at: now.toISOString(), reason: 'its VM was gone', operationId: booted.opId };
    const anew = { startedAt: now, expiresAt: new Date(now.getTime() + 60_000), memoryLost };
    expect(await sandboxes.row(sandboxId)).toMatchObject({ state: 'running', ...anew });
    expect((await sandboxes.events(sandboxId)).at(-1)).toEqual({
      type: 'recover.succeeded',
      data: { state: 'running', memory_lost: { reason: 'its VM was gone' } },
    });

    await activities.claim({ opId: 'p9', sandboxId, teamId: 'team', runId: 'p9', kind: 'pause' });
    await activities.settle({ sandboxId, opId: 'p9', epoch: 4, operation: 'succeeded', sandbox: 'paused' });
    expect((await sandboxes.row(sandboxId)).memoryLost).toEqual(memoryLost);
    await activities.claim({ opId: 'd9', sandboxId, teamId: 'team', runId: 'd9', kind: 'destroy' });
    await activities.settle({ sandboxId, opId: 'd9', epoch: 5, operation: 'succeeded', sandbox: 'stopped' });
    expect((await sandboxes.row(sandboxId)).memoryLost).toBeNull();
  });

  it('gives a sandbox whose create it ended its whole timeout', async () => {
    const input = sandboxes.create({ spec: { ...sandboxes.create().spec, timeoutSeconds: 60 } });
    await activities.claimAndPlace(input);
    const { sandboxId } = input;
    const recover = ask(sandboxId);
    expect(await activities.claimRecovery(recover)).toMatchObject({ interrupted: { kind: 'create', epoch: 1 } });
    const { opId } = recover;
    await activities.settle({ sandboxId, opId, epoch: 2, operation: 'succeeded', sandbox: 'running' });
    expect(await sandboxes.row(sandboxId)).toMatchObject({
      startedAt: now,
      expiresAt: new Date(now.getTime() + 60_000),
    });
  });

  it('does not stand in the way of a destroy that takes over an operation of a lost sandbox', async () => {
    const { sandboxId, opId, epoch } = await sandboxes.pausing();
    await database.dataSource.query(`UPDATE sandboxes SET state = 'missing' WHERE id = $1`, [sandboxId]);
    const failure = { step: 'killVm', code: 'state_conflict', message: 'a destroy takes over' } as const;
    const left = { sandboxId, opId, epoch, operation: 'cancelled', sandbox: 'pausing', failure } as const;
    await activities.settle(left);
    await activities.settle(left);
    expect(await state(sandboxId)).toBe('missing');
    await activities.claim({ opId: 'd', sandboxId, teamId: 'team', runId: 'd', kind: 'destroy' });
    expect(await state(sandboxId)).toBe('stopping');
  });
});
