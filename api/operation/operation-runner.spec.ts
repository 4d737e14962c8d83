import { describe, expect, it } from '@jest/globals';
import type { OperationKind, SandboxState } from '../../workflows/contract/states.js';
import type { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { OperationRunner } from './operation-runner.js';
import type { OperationRequest, OperationStarter } from './operation-starter.js';
import type { OperationEntity } from './operation.entity.js';
import type { OperationRepository } from './operation.repository.js';

const OPEN = { id: 'pause-1', kind: 'pause', sandboxId: 's' } as OperationEntity;

/** Whether the operation reaches the starter, or why it does not. */
async function ask(
  kind: Exclude<OperationKind, 'create' | 'network'>,
  opId: string,
  state: SandboxState,
  open?: OperationEntity,
) {
  const started: string[] = [];
  const starter = {
    start: ({ input }: OperationRequest) => {
      started.push(input.opId);
      return Promise.resolve({ opId: input.opId, settled: null });
    },
  };
  const rows = { openOf: () => Promise.resolve(new Map(open ? [[open.sandboxId, open]] : [])) };
  const runner = new OperationRunner(starter as unknown as OperationStarter, rows as unknown as OperationRepository);
  const sandbox = { id: 's', teamId: 't', templateId: 'm', hostId: 'h', state } as SandboxEntity;
  await runner.run(sandbox, kind, { opId, waitMs: 1_000, reason: 'requested' });
  return started;
}

describe('OperationRunner', () => {
  it('lets the same request join the operation that it has started before', async () => {
    expect(await ask('pause', OPEN.id, 'pausing', OPEN)).toEqual([OPEN.id]);
  });

  it('refuses another one early, and names the one that is under way', async () => {
    await expect(ask('pause', 'pause-2', 'pausing', OPEN)).rejects.toMatchObject({
      code: 'operation_in_progress',
      details: { state: 'pausing', operation: { id: OPEN.id, kind: 'pause' } },
    });
  });

  it('refuses what the state does not allow', async () => {
    await expect(ask('pause', 'pause-2', 'paused')).rejects.toMatchObject({ code: 'state_conflict' });
  });

  it('lets a destroy through whatever is under way', async () => {
    expect(await ask('destroy', 'destroy-1', 'pausing', OPEN)).toEqual(['destroy-1']);
  });
});
