import { Injectable } from '@nestjs/common';
import { DataSource, In } from 'typeorm';
import type { OperationKind, OperationState } from '../../workflows/contract/states.js';
import type { Position } from '../http/paging.js';
import { OperationRequestEntity } from './operation-request.entity.js';
import { OperationEntity } from './operation.entity.js';

export interface OperationFilter {
  sandboxId?: string | undefined;
  states?: readonly OperationState[] | undefined;
  kinds?: readonly OperationKind[] | undefined;
}

@Injectable()
export class OperationRepository {
  constructor(private readonly dataSource: DataSource) {}

  find(teamId: string, id: string): Promise<OperationEntity | null> {
    return this.dataSource.manager.findOneBy(OperationEntity, { teamId, id });
  }

  /** The open operation of each of these sandboxes that has one. */
  async openOf(teamId: string, sandboxIds: readonly string[]): Promise<Map<string, OperationEntity>> {
    if (sandboxIds.length === 0) return new Map();
    const open = await this.dataSource.manager.findBy(OperationEntity, {
      teamId,
      sandboxId: In([...sandboxIds]),
      state: 'running',
    });
    return new Map(open.map((operation) => [operation.sandboxId, operation]));
  }

  list(teamId: string, filter: OperationFilter, limit: number, after: Position | null): Promise<OperationEntity[]> {
    const query = this.dataSource.createQueryBuilder(OperationEntity, 'op').where('op.team_id = :teamId', { teamId });
    if (filter.sandboxId !== undefined) query.andWhere('op.sandbox_id = :sandboxId', { sandboxId: filter.sandboxId });
    if (filter.states) query.andWhere('op.state = ANY(:states)', { states: filter.states });
    if (filter.kinds) query.andWhere('op.kind = ANY(:kinds)', { kinds: filter.kinds });
    if (after) query.andWhere('(op.started_at, op.id) < (:at, :id)', after);
    return query.orderBy('op.started_at', 'DESC').addOrderBy('op.id', 'DESC').take(limit).getMany();
  }

  /** Notes a request before its workflow starts; answers with the one that was noted first. */
  async ensureRequest(request: {
    opId: string;
    teamId: string;
    route: string;
    requestHash: string;
    retryOf?: string;
  }): Promise<OperationRequestEntity> {
    const insert = this.dataSource.createQueryBuilder().insert().into(OperationRequestEntity);
    await insert.values(request).orIgnore().execute();
    return this.dataSource.manager.findOneByOrFail(OperationRequestEntity, { opId: request.opId });
  }
}
