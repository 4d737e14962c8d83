import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readConfig } from '../../cli/config.js';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/search-attributes.js';
import { deferred } from '../support/deferred.js';
import { ensureClusterBinaries, type ClusterBinaries } from './cluster-binaries.js';
import { startClusterPostgres, type ClusterPostgres } from './cluster-postgres.js';
import { startClusterTemporal, type ClusterTemporal } from './cluster-temporal.js';
import { clusterVersion } from './compose-file.js';

const DAY = 24 * 3600;
const namespace = 'default';
/** The programs may have to be built first. */
const BUILD_MS = 60 * 60_000;
const CRASH_MS = 120_000;

let home: string;
let binaries: ClusterBinaries;
let postgres: ClusterPostgres | undefined;
let cluster: ClusterTemporal | undefined;
let connection: Connection;
let client: Client;

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR', () => {}), shutdownSignals: [] });
  home = await mkdtemp(join(tmpdir(), 'torpor-cluster-'));
  binaries = await ensureClusterBinaries(readConfig().cacheDir, (text) => console.log(text));
  // Postgres runs as another user.
  await chmod(home, 0o755);
  postgres = await startClusterPostgres(join(home, 'postgres'));
  await open();
}, BUILD_MS);

afterAll(async () => {
  await connection?.close();
  await cluster?.stop();
  await postgres?.stop();
  await rm(home, { recursive: true, force: true });
});

async function open(): Promise<void> {
  const ports = cluster === undefined ? {} : { ports: cluster.ports };
  if (postgres === undefined) throw new Error('Postgres did not start');
  cluster = await startClusterTemporal({
    directory: join(home, 'temporal'),
    postgres: postgres.access,
    binaries,
    ...ports,
  });
  connection = await Connection.connect({ address: cluster.address });
  client = new Client({ connection });
}

describe('the cluster of docker-compose.temporal.yml', () => {
  it('is the version and has the shards and stores that the file names', async () => {
    expect(await connection.workflowService.getClusterInfo({})).toMatchObject({
      serverVersion: clusterVersion(),
      historyShardCount: 512,
      persistenceStore: 'postgres12',
      visibilityStore: 'postgres12',
    });
  });

  it('keeps ended runs for 30 days', async () => {
    const { config } = await connection.workflowService.describeNamespace({ namespace });
    expect(Number(config?.workflowExecutionRetentionTtl?.seconds)).toBe(30 * DAY);
  });

  it('knows the search attributes of the contract', async () => {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    for (const { name } of SEARCH_ATTRIBUTES) expect(customAttributes).toHaveProperty(name);
  });

  it('gives each queue one partition, so has read its dynamic configuration', async () => {
    const taskQueue = { name: 'control' };
    const queue = await connection.workflowService.listTaskQueuePartitions({ namespace, taskQueue });
    expect(queue.activityTaskQueuePartitions).toHaveLength(1);
    expect(queue.workflowTaskQueuePartitions).toHaveLength(1);
  });

  it(
    'goes on with a run that it was killed under',
    async () => {
      const inStep = deferred<void>();
      const released = deferred<void>();
      const ran: number[] = [];
      const workers = await startWorkers(async (index) => {
        ran.push(index);
        if (index === 2) inStep.resolve();
        if (index === 2) await released.promise;
        return index;
      });
      const handle = await client.workflow.start('Probe', { workflowId: 'killed', taskQueue: 'control', args: [4] });
      await inStep.promise;
      const before = cluster?.pid;
      await cluster?.restart();
      released.resolve();
      expect(await handle.result()).toEqual([0, 1, 2, 3]);
      expect(ran).toEqual([0, 1, 2, 3]);
      expect(cluster?.pid).not.toBe(before);
      await workers.stop();
    },
    CRASH_MS,
  );

  it(
    'runs its one-shots again at the next start, and keeps what it has',
    async () => {
      await connection.close();
      await cluster?.stop();
      await open();
      expect(await client.workflow.getHandle('killed').result()).toEqual([0, 1, 2, 3]);
    },
    CRASH_MS,
  );
});

async function startWorkers(step: (index: number) => Promise<number>): Promise<{ stop(): Promise<void> }> {
  const native = await NativeConnection.connect({ address: cluster?.address ?? '' });
  const workflowsPath = fileURLToPath(new URL('./probe.workflow.ts', import.meta.url));
  const workers = [
    await Worker.create({ connection: native, taskQueue: 'control', workflowsPath }),
    await Worker.create({ connection: native, taskQueue: 'host', activities: { step } }),
  ];
  const running = Promise.all(workers.map((worker) => worker.run()));
  return {
    async stop() {
      for (const worker of workers) worker.shutdown();
      await running;
      await native.close();
    },
  };
}
