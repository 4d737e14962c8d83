import { dirname } from 'node:path';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/search-attributes.js';
import type { ServiceSpec } from './service.js';

export interface TemporalOptions {
  binary: string;
  database: string;
  port: number;
  uiPort: number;
  namespace: string;
}

/**
 * With one history shard every hop waits for the next poll; these make the polls frequent
 * enough not to be felt. A cluster has hundreds of shards and needs none of this. The
 * queues' partitions are for far more traffic than one machine has.
 */
const DYNAMIC_CONFIG = [
  'history.transferProcessorMaxPollRPS=2000',
  'history.timerProcessorMaxPollRPS=2000',
  'history.visibilityProcessorMaxPollRPS=2000',
  'matching.numTaskqueueReadPartitions=1',
  'matching.numTaskqueueWritePartitions=1',
];

/** A write-ahead log makes commits cheap, and full synchronisation keeps them durable. */
const SQLITE_PRAGMAS = ['journal_mode=wal', 'synchronous=2'];

/** Temporal's development server: one process, data in one SQLite file, with the UI. */
export function temporalService(options: TemporalOptions): ServiceSpec {
  const { binary, database, port, uiPort, namespace } = options;
  return {
    name: 'temporal',
    argv: [
      binary,
      'server',
      'start-dev',
      '--ip',
      '127.0.0.1',
      '--port',
      String(port),
      '--ui-port',
      String(uiPort),
      '--db-filename',
      database,
      '--log-level',
      'warn',
      ...(namespace === 'default' ? [] : ['--namespace', namespace]),
      ...DYNAMIC_CONFIG.flatMap((setting) => ['--dynamic-config-value', setting]),
      ...SQLITE_PRAGMAS.flatMap((pragma) => ['--sqlite-pragma', pragma]),
      ...SEARCH_ATTRIBUTES.flatMap(({ name }) => ['--search-attribute', `${name}=Keyword`]),
    ],
    // Without HOME it looks for its own configuration nowhere but in its arguments.
    env: { PATH: '/usr/bin:/bin', HOME: dirname(database) },
    cwd: dirname(database),
    stopSignal: 'SIGTERM',
    stopMs: 20_000,
    readyMs: 300_000,
    readyLine: (line) => (/^Temporal Server:|^Server:/.test(line) ? {} : undefined),
  };
}
