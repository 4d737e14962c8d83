import { hostname } from 'node:os';
import { NestFactory } from '@nestjs/core';
import { NativeConnection, Worker } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { ControlActivities } from '../activities/control/contract.js';
import { installTemporalRuntime } from '../activities/temporal-runtime.js';
import { CONTROL_QUEUE } from '../workflows/contract/ids.js';
import type { Config } from './config.js';
import { CONTROL_ACTIVITIES, ControlModule } from './control/control.module.js';

/** Longer than any local activity; a workflow task that is cut off is simply done again elsewhere. */
const GRACE = '10 seconds';

/** What a control worker is made of beside its configuration; fault tests run the same worker over other parts. */
export interface ControlWorkerParts {
  /** Laid around the activities before they are registered. */
  around?: <T extends object>(activities: T) => T;
}

/** The control worker: all workflows, and the activities that touch Postgres. Any number may run. */
export async function runControlWorker(config: Config, log: Logger, parts: ControlWorkerParts = {}): Promise<void> {
  installTemporalRuntime(log);
  const app = await NestFactory.createApplicationContext(ControlModule.forConfig(config), {
    logger: false,
    abortOnError: false,
  });
  const connection = await NativeConnection.connect({ address: config.temporalAddress });
  const around = parts.around ?? ((plain) => plain);
  const worker = await createWorker(config, connection, around(app.get<ControlActivities>(CONTROL_ACTIVITIES)));
  // One owner of the signals: first no new work, then the connections under it.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => shutDown(worker, log, signal));
  log.info({ ready: 'control-worker', queue: CONTROL_QUEUE }, 'ready');
  try {
    await worker.run();
  } finally {
    await connection.close();
    await app.close();
  }
  log.info('stopped');
}

function createWorker(config: Config, connection: NativeConnection, activities: ControlActivities): Promise<Worker> {
  return Worker.create({
    connection,
    namespace: config.temporalNamespace,
    taskQueue: CONTROL_QUEUE,
    identity: `control@${hostname()}:${process.pid}`,
    workflowBundle: { codePath: config.workflowBundle },
    activities,
    shutdownGraceTime: GRACE,
    maxHeartbeatThrottleInterval: '5 seconds',
  });
}

function shutDown(worker: Worker, log: Logger, signal: string): void {
  log.info({ signal }, 'draining');
  if (worker.getState() === 'RUNNING') worker.shutdown();
}
