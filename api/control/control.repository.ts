import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type {
  ControlStore,
  ControlTransaction,
  OperationRecord,
  SandboxRecord,
} from '../../activities/control/ports.js';
import type { SurveyStore } from '../../activities/control/survey-ports.js';
import { OperationEntity } from '../operation/operation.entity.js';
import { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { TypeOrmControlTransaction } from './control-transaction.js';
import { SurveyQueries } from './survey.queries.js';

/** The control activities' view of the database. */
@Injectable()
export class ControlRepository implements ControlStore {
  readonly survey: SurveyStore;

  constructor(private readonly dataSource: DataSource) {
    this.survey = new SurveyQueries(dataSource);
  }

  transaction<T>(work: (tx: ControlTransaction) => Promise<T>): Promise<T> {
    return this.dataSource.transaction((manager) => work(new TypeOrmControlTransaction(manager)));
  }

  findSandbox(id: string): Promise<SandboxRecord | null> {
    return this.dataSource.manager.findOneBy(SandboxEntity, { id });
  }

  findOperation(id: string): Promise<OperationRecord | null> {
    return this.dataSource.manager.findOneBy(OperationEntity, { id });
  }
}
