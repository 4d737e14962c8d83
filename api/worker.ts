import 'reflect-metadata';
import { hostname } from 'node:os';
import { NestFactory } from '@nestjs/core';
import { NativeConnection, Worker } from '@temporalio/worker';
import { pino, type Logger } from 'pino';
import { installTemporalRuntime } from '../activities/temporal-runtime.js';
import type { ControlActivities } from '../activities/control/contract.js';
import { CONTROL_QUEUE } from '../workflows/contract/ids.js';
import { ConfigError, EX_CONFIG, readConfig, type Config } from './config.js';
import { CONTROL_ACTIVITIES, ControlModule } from './control/control.module.js';

/** Longer than any local activity; a workflow task that is cut off is simply done again elsewhere. */
const GRACE = '10 seconds';

/** The control worker: all workflows, and the activities that touch Postgres. Any number may run. */
async function main(): Promise<void> {
  const config = readConfig();
  const log = pino({ level: config.logLevel, base: { process: 'control-worker' } });
  installTemporalRuntime(log);
  const app = await NestFactory.createApplicationContext(ControlModule.forConfig(config), {
    logger: false,
    abortOnError: false,
  });
  const connection = await NativeConnection.connect({ address: config.temporalAddress });
  const worker = await createWorker(config, connection, app.get<ControlActivities>(CONTROL_ACTIVITIES));
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

main().catch((err: unknown) => {
  // What is wrong with the environment is said in words; anything else is a bug or an outage and shows where it is.
  const wrongConfig = err instanceof ConfigError;
  const why = err instanceof Error ? (wrongConfig ? err.message : (err.stack ?? err.message)) : String(err);
  process.stderr.write(`control worker: ${why}\n`);
  process.exit(wrongConfig ? EX_CONFIG : 1);
});
