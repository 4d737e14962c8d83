import { Injectable } from '@nestjs/common';
import { DomainError, type ErrorCode } from '../../workflows/contract/errors.js';
import { hashOf, operationIdOf, randomId } from './operation-id.js';
import type { OperationEntity } from './operation.entity.js';
import type { StartedOperation } from './operation-starter.js';
import { OperationRepository } from './operation.repository.js';

export interface BegunRequest {
  opId: string;
  /** The operation that the same key started before; null when there is none. */
  earlier: OperationEntity | null;
}

/** What a start may be answered because the same request has started the operation already. */
const REFUSALS = new Set<ErrorCode>(['operation_in_progress', 'state_conflict', 'stale_operation']);

/** The same request under the same key is the same operation, however often it arrives. */
@Injectable()
export class IdempotencyService {
  constructor(private readonly operations: OperationRepository) {}

  async begin(teamId: string, route: string, key: string | null, body: unknown): Promise<BegunRequest> {
    if (key === null) return { opId: randomId(), earlier: null };
    const opId = operationIdOf(teamId, route, key);
    const requestHash = hashOf(body);
    const noted = await this.operations.ensureRequest({ opId, teamId, route, requestHash });
    if (noted.requestHash !== requestHash) {
      throw new DomainError(
        'idempotency_key_reused',
        `Idempotency-Key ${JSON.stringify(key)} was used for ${route} with another body`,
        {
          route,
          first_used_at: noted.createdAt.toISOString(),
        },
      );
    }
    return { opId, earlier: await this.operations.find(teamId, opId) };
  }

  /**
   * Starts nothing when the same request did so before: it is answered from what became of that. Where that still goes on
   * and the caller waits, `start` joins it.
   */
  async once(
    teamId: string,
    { opId, earlier }: BegunRequest,
    waitMs: number,
    start: () => Promise<StartedOperation>,
  ): Promise<StartedOperation> {
    const known = earlier && outcomeOf(earlier, waitMs);
    if (known) return known;
    try {
      return await start();
    } catch (error) {
      if (!(error instanceof DomainError) || !REFUSALS.has(error.code)) throw error;
      // It may have begun, and ended, since it was looked for: then it stands in its own way.
      const since = await this.operations.find(teamId, opId);
      const outcome = since && outcomeOf(since, waitMs);
      if (!outcome) throw error;
      return outcome;
    }
  }
}

/** Null while it goes on and is to be waited for. */
function outcomeOf({ id, kind, epoch, state, failure }: OperationEntity, waitMs: number): StartedOperation | null {
  if (waitMs === 0) return { opId: id, settled: null };
  if (state === 'running') return null;
  return { opId: id, settled: { opId: id, kind, epoch, ...(failure ? { failure } : {}) } };
}
