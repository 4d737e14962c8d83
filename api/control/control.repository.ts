import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type {
  ControlStore,
  ControlTransaction,
  OperationRecord,
  SandboxRecord,
} from '../../activities/control/ports.js';
import { OperationEntity } from '../operation/operation.entity.js';
import { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { TypeOrmControlTransaction } from './control-transaction.js';

/** The control activities' view of the database. */
@Injectable()
export class ControlRepository implements ControlStore {
  constructor(private readonly dataSource: DataSource) {}

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
