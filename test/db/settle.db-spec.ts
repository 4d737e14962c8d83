import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import { ControlRepository } from '../../api/control/control.repository.js';
import { OperationEntity } from '../../api/operation/operation.entity.js';
import { SandboxEntity } from '../../api/sandbox/sandbox.entity.js';
import type { CreateSandboxInput } from '../../workflows/contract/operations.js';
import { FakeControlTemporal, SPEC } from './control-rig.js';
import { startDatabase, type TestDatabase } from './database.js';
import { insertHost } from './host-row.js';

describe('what an operation leaves behind', () => {
  let database: TestDatabase;
  let activities: ControlActivities;
  let temporal: FakeControlTemporal;
  let count = 0;

  beforeAll(async () => {
    database = await startDatabase();
    for (const id of ['h1', 'h2']) await insertHost(database.dataSource, id, { memoryMb: 65_536 });
    await database.dataSource.query(`INSERT INTO teams (id, name) VALUES ('team', 'Team')`);
  });
  afterAll(() => database.stop());

  beforeEach(() => {
    temporal = new FakeControlTemporal();
    activities = createControlActivities(new ControlRepository(database.dataSource), temporal);
  });

  function createInput(timeoutSeconds: number): CreateSandboxInput & { runId: string } {
    count += 1;
    const spec = { ...SPEC, timeoutSeconds };
    return { opId: `op${count}`, sandboxId: `sbx${count}`, teamId: 'team', runId: `run${count}`, spec };
  }

  async function running(timeoutSeconds: number): Promise<string> {
    const input = createInput(timeoutSeconds);
    const { epoch } = await activities.claimAndPlace(input);
    const { sandboxId, opId } = input;
    await activities.settle({ sandboxId, opId, epoch, operation: 'succeeded', sandbox: 'running' });
    return sandboxId;
  }

  async function claim(kind: 'pause' | 'destroy', sandboxId: string): Promise<{ opId: string; epoch: number }> {
    const opId = `${kind}-${sandboxId}`;
    const { epoch } = await activities.claim({ opId, sandboxId, teamId: 'team', runId: opId, kind });
    return { opId, epoch };
  }

  const hostOf = async (id: string): Promise<string | null> =>
    (await database.dataSource.manager.findOneByOrFail(OperationEntity, { id })).hostId;

  it.each([
    ['pause', 'paused'],
    ['destroy', 'stopped'],
  ] as const)(
    'tells the keeper of a timeout after a %s, and asks for none where there was no timeout',
    async (kind, sandbox) => {
      for (const timeoutSeconds of [0, 60]) {
        const sandboxId = await running(timeoutSeconds);
        const settled = { sandboxId, ...(await claim(kind, sandboxId)), operation: 'succeeded', sandbox } as const;
        await activities.settle(settled);
        // Its answer was lost; so may the nudge have been.
        await activities.settle(settled);
        expect(temporal.woken).toEqual(timeoutSeconds === 0 ? [] : [sandboxId, sandboxId]);
      }
    },
  );

  it('leaves the keeper alone when the sandbox runs on', async () => {
    const sandboxId = await running(60);
    const failure = { step: 'snapshotVm', code: 'disk_full', message: 'no space' } as const;
    const claimed = await claim('pause', sandboxId);
    await activities.settle({ sandboxId, ...claimed, operation: 'failed', sandbox: 'running', failure });
    expect(temporal.woken).toEqual([]);
  });

  it('is tried again until the keeper is told, with what it wrote standing', async () => {
    const sandboxId = await running(60);
    const settled = {
      sandboxId,
      ...(await claim('pause', sandboxId)),
      operation: 'succeeded',
      sandbox: 'paused',
    } as const;
    temporal.wake = () => Promise.reject(new Error('Temporal is away'));
    await expect(activities.settle(settled)).rejects.toMatchObject({
      message: 'Temporal is away',
      nonRetryable: false,
    });
    const row = await database.dataSource.manager.findOneByOrFail(SandboxEntity, { id: sandboxId });
    expect(row).toMatchObject({ state: 'paused', expiresAt: null });
    temporal.wake = () => Promise.resolve();
    await activities.settle(settled);
    expect(temporal.woken).toEqual([sandboxId, sandboxId]);
  });

  it('remembers where the steps of an operation ran, whatever becomes of its sandbox', async () => {
    const input = createInput(0);
    const { sandboxId, opId } = input;
    const { hostId } = await activities.claimAndPlace(input);
    expect(await hostOf(opId)).toBe(hostId);
    const moved = await activities.placeElsewhere({ sandboxId, epoch: 1, notHosts: [hostId] });
    expect(await hostOf(opId)).toBe(moved.hostId);
    await activities.settle({ sandboxId, opId, epoch: 1, operation: 'succeeded', sandbox: 'running' });
    const pause = await claim('pause', sandboxId);
    await database.dataSource.manager.update(SandboxEntity, { id: sandboxId }, { hostId });
    expect(await hostOf(pause.opId)).toBe(moved.hostId);
  });
});
