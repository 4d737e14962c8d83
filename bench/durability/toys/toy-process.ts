import { pino } from 'pino';
import { readConfig } from '../../../host-worker/config.js';
import { openSimulatedDrivers, type SimulatedDriverOptions } from '../../../test/simulator/simulated-drivers.js';
import { CronWithLocks } from './cron-with-locks.js';
import { HostCalls } from './host-calls.js';
import { InMemoryLoop } from './in-memory-loop.js';
import { serve } from './toy-server.js';
import type { Toy } from './toy.js';

/** What the one argument of the process says, as JSON. */
export interface ToySettings {
  kind: 'in-memory' | 'cron' | 'careful-cron';
  port: number;
  databaseUrl?: string;
  simulated: SimulatedDriverOptions;
}

const settings = JSON.parse(process.argv[2] ?? '') as ToySettings;
const log = pino();

async function open(calls: HostCalls): Promise<Toy> {
  if (settings.kind === 'in-memory') {
    const loop = new InMemoryLoop(calls, log);
    void loop.reap();
    return loop;
  }
  const cron = await CronWithLocks.open(calls, settings.databaseUrl ?? '', log, settings.kind === 'careful-cron');
  cron.startCrons();
  return cron;
}

const { ports } = await openSimulatedDrivers(readConfig(), log, settings.simulated);
await serve(await open(new HostCalls(ports)), settings.port);
log.info({ ready: settings.kind }, 'serving');
