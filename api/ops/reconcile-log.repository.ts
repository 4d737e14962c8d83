import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { ReconcileLogEntity } from './reconcile-log.entity.js';

@Injectable()
export class ReconcileLogRepository {
  constructor(private readonly dataSource: DataSource) {}

  /** Newest first. */
  list(limit: number, beforeId: string | null): Promise<ReconcileLogEntity[]> {
    const query = this.dataSource.createQueryBuilder(ReconcileLogEntity, 'found');
    if (beforeId !== null) query.where('found.id < :beforeId', { beforeId });
    return query.orderBy('found.id', 'DESC').take(limit).getMany();
  }
}
