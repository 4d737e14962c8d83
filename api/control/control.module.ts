import { Module, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { ControlActivities } from '../../activities/control/contract.js';
import { createControlActivities } from '../../activities/control/control-activities.js';
import { CONFIG, type Config } from '../config.js';
import { dataSourceOptions } from '../database/data-source-options.js';
import { OperationStarter } from '../operation/operation-starter.js';
import { TemporalModule } from '../temporal/temporal.module.js';
import { ControlRepository } from './control.repository.js';
import { ReconcileSchedule } from './reconcile-schedule.js';
import { TemporalControl } from './temporal-control.js';

/** Injection token of the `ControlActivities` that the control worker registers. */
export const CONTROL_ACTIVITIES = Symbol('ControlActivities');

/** Everything the control worker needs: `app.get<ControlActivities>(CONTROL_ACTIVITIES)`. */
@Module({})
export class ControlModule {
  static forConfig(config: Config): DynamicModule {
    return {
      module: ControlModule,
      imports: [
        TypeOrmModule.forRoot(dataSourceOptions(config.databaseUrl, 'torpor-control-worker')),
        TemporalModule.forConfig(config),
      ],
      providers: [
        ControlRepository,
        OperationStarter,
        TemporalControl,
        ReconcileSchedule,
        { provide: CONFIG, useValue: config },
        {
          provide: CONTROL_ACTIVITIES,
          useFactory: (store: ControlRepository, temporal: TemporalControl): ControlActivities =>
            createControlActivities(store, temporal, () => new Date(), config.orphanGraceSeconds),
          inject: [ControlRepository, TemporalControl],
        },
      ],
    };
  }
}
