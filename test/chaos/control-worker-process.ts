import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import type * as configModule from '../../api/config.js';
import type * as workerModule from '../../api/control-worker.js';
import { ROOT } from '../support/root.js';
import { HoldPoints } from './hold-points.js';

/**
 * The product's control worker as it was built, with the director asked around its activities. Starting it from the
 * sources would take seconds longer, and how long a restart takes is one of the figures.
 */
const built = <T>(file: string): Promise<T> => import(join(ROOT, 'dist/api', file)) as Promise<T>;

const { values } = parseArgs({ options: { director: { type: 'string' } } });
// Nest's decorators need the metadata API before the first class is read.
await import('reflect-metadata');
const { readConfig } = await built<typeof configModule>('config.js');
const { runControlWorker } = await built<typeof workerModule>('control-worker.js');
const holdPoints = await HoldPoints.open('control-worker', values.director ?? '');
const config = readConfig();
const log = pino({ level: config.logLevel, base: { process: 'control-worker' } });
await runControlWorker(config, log, { around: (activities) => holdPoints.around(activities) });
