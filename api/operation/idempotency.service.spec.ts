import { describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import { IdempotencyService, type BegunRequest } from './idempotency.service.js';
import type { StartedOperation } from './operation-starter.js';
import type { OperationEntity } from './operation.entity.js';
import type { OperationRepository } from './operation.repository.js';

const OP_ID = 'op-of-the-key';
const WAIT_MS = 1_000;
const row = (fields: Partial<OperationEntity>): OperationEntity =>
  ({ id: OP_ID, kind: 'pause', epoch: 2, failure: null, ...fields }) as OperationEntity;
const ENDED = row({ state: 'succeeded' });
const STARTED: StartedOperation = { opId: OP_ID, settled: null };
const refuse = (code: 'operation_in_progress' | 'no_hosts_available') => () =>
  Promise.reject(new DomainError(code, 'no'));

/** What the rows show when they are asked once more. */
const service = (since: OperationEntity | null) =>
  new IdempotencyService({ find: () => Promise.resolve(since) } as unknown as OperationRepository);
const once = (
  earlier: OperationEntity | null,
  start: () => Promise<StartedOperation>,
  since: OperationEntity | null = null,
  waitMs = WAIT_MS,
) => service(since).once('team', { opId: OP_ID, earlier } satisfies BegunRequest, waitMs, start);
const never = () => Promise.reject(new Error('it was started again'));

describe('IdempotencyService.once', () => {
  it('answers from what the same request has led to', async () => {
    expect(await once(ENDED, never)).toEqual({ opId: OP_ID, settled: { opId: OP_ID, kind: 'pause', epoch: 2 } });
    const failure = { step: 'snapshotVm', code: 'disk_full', message: 'full' } as const;
    expect(await once(row({ state: 'failed', failure }), never)).toMatchObject({ settled: { failure } });
  });

  it('does not wait for a caller who does not', async () => {
    expect(await once(row({ state: 'running' }), never, null, 0)).toEqual(STARTED);
  });

  it('joins what still goes on', async () => {
    expect(await once(row({ state: 'running' }), () => Promise.resolve(STARTED))).toEqual(STARTED);
  });

  it('takes no refusal for an answer that is about its own operation', async () => {
    expect(await once(null, refuse('operation_in_progress'), ENDED)).toMatchObject({ settled: { kind: 'pause' } });
    expect(await once(null, refuse('operation_in_progress'), row({ state: 'running' }), 0)).toEqual(STARTED);
  });

  it('passes every other refusal on', async () => {
    await expect(once(null, refuse('operation_in_progress'))).rejects.toMatchObject({ code: 'operation_in_progress' });
    await expect(once(null, refuse('no_hosts_available'), ENDED)).rejects.toMatchObject({ code: 'no_hosts_available' });
  });
});
