import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { hashOf, operationIdOf, randomId } from './operation-id.js';
import type { OperationEntity } from './operation.entity.js';
import { OperationRepository } from './operation.repository.js';

export interface BegunRequest {
  opId: string;
  /** The operation that the same key started before; null when there is none. */
  earlier: OperationEntity | null;
}

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
}
