import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NativeConnection, Worker } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { HostActivities } from '../activities/host/contract.js';
import { createHostActivities } from '../activities/host/host-activities.js';
import type { HostPorts } from '../activities/host/ports.js';
import { StepGate } from '../activities/host/step-gate.js';
import { installTemporalRuntime } from '../activities/temporal-runtime.js';
import { hostQueue } from '../workflows/contract/ids.js';
import { Caretaking } from './caretaking.js';
import { type HostConfig, readConfig } from './config.js';
import { ConsoleTrimming } from './console-trimming.js';
import { ControlPlaneClient } from './control-plane.client.js';
import { ConnectionRegistry } from './data-plane/connection-registry.js';
import { DataPlaneServer } from './data-plane/data-plane.server.js';
import { exitStatusOf, lastWords } from './exit-status.js';
import { FailureInterceptor } from './failure.js';
import { CredentialsFile } from './host-credentials.js';
import { hostFacts } from './host-facts.js';
import { FileJournal } from './journal.js';
import { createLogger } from './log.js';
import { openDrivers } from './machine-drivers.js';
import { Registration } from './registration.js';
import { WorkerLock } from './worker-lock.js';

const HEARTBEAT_MS = 10_000;
/** Steps at the same time. More would only make every guest of a small machine start slower. */
const MAX_STEPS = 16;
const TEMPORAL_RETRY_MS = 2_000;

/**
 * Serves one machine: its steps from queue `host-<id>`, and bytes into its guests. VMs
 * are processes of their own and go on whatever happens to this one.
 */
async function main(): Promise<void> {
  const config = readConfig();
  const log = createLogger(config.logLevel);
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'draining');
      stopping.abort();
    });
  }
  const closers: (() => Promise<unknown>)[] = [];
  try {
    await serve(config, log, stopping, (close) => closers.push(close));
  } catch (err) {
    // A signal may cut short what was still waited for at start.
    if (!stopping.signal.aborted) throw err;
  } finally {
    for (const close of closers.reverse()) await close();
  }
  log.info('stopped; VMs go on');
}

async function serve(
  config: HostConfig,
  log: Logger,
  stopping: AbortController,
  atEnd: (close: () => Promise<unknown>) => void,
): Promise<void> {
  for (const [directory, variable] of [
    [config.dataDir, 'TORPOR_DATA_DIR'],
    [config.runDir, 'TORPOR_RUN_DIR'],
  ] as const) {
    const lock = await WorkerLock.take(directory, variable);
    atEnd(() => lock.release());
  }
  const drivers = await openDrivers(config, log);
  const consoles = new ConsoleTrimming(drivers.trimConsoles, log);
  consoles.start();
  atEnd(() => consoles.stop());
  const file = new CredentialsFile(config.dataDir);
  const credentials = await file.load();
  const connections = new ConnectionRegistry((id) => drivers.ports.network.find(id));
  const dataPlane = new DataPlaneServer({
    token: credentials.dataPlaneToken,
    connections,
    consoleLog: (id, maxBytes) => drivers.ports.hypervisor.consoleLog(id, maxBytes),
    log,
  });
  const listening = await dataPlane.listen(config.dataPlane.host, config.dataPlane.port);
  atEnd(() => dataPlane.close());
  const dataPlaneUrl = config.dataPlane.advertisedUrl ?? listening;

  const client = new ControlPlaneClient(config.apiUrl, () => credentials.registered?.token);
  const registration = new Registration({
    ...{ client, file, credentials, log, heartbeatMs: HEARTBEAT_MS },
    registrationToken: config.registrationToken,
    info: () => hostFacts(config, drivers, { url: dataPlaneUrl, token: credentials.dataPlaneToken }),
  });
  stopping.signal.addEventListener('abort', () => void registration.leave());
  const hostId = await registration.enter();

  const journal = await FileJournal.open(join(config.dataDir, 'journal'), hostId, log);
  const ports: HostPorts = { ...drivers.ports, controlPlane: client, journal };
  const gate = new StepGate();
  const caretaking = new Caretaking(
    { ports, journal, gate, assigned: () => client.assigned(), log },
    connections,
    hostId,
  );
  await caretaking.start();
  atEnd(() => caretaking.stop());

  installTemporalRuntime(log);
  const connection = await connectTemporal(config, log, stopping.signal);
  atEnd(() => connection.close());
  const worker = await createWorker(
    config,
    log,
    connection,
    hostId,
    createHostActivities(ports, { connections, gate, log }),
  );
  stopping.signal.addEventListener('abort', () => {
    if (worker.getState() === 'RUNNING') worker.shutdown();
  });
  if (stopping.signal.aborted) return;
  registration.keep((err) => {
    log.error({ err }, 'this machine became another host');
    process.exitCode = 1;
    stopping.abort();
  });
  atEnd(() => registration.leave());
  log.info({ ready: 'host-worker', hostId, dataPlaneUrl }, 'ready');
  await worker.run();
}

/** Temporal may come up after this process, as at the start of a machine. */
async function connectTemporal(config: HostConfig, log: Logger, signal: AbortSignal): Promise<NativeConnection> {
  for (;;) {
    try {
      return await NativeConnection.connect({ address: config.temporalAddress });
    } catch (err) {
      log.warn({ err, address: config.temporalAddress, retryInMs: TEMPORAL_RETRY_MS }, 'Temporal cannot be reached');
      await sleep(TEMPORAL_RETRY_MS, undefined, { signal });
    }
  }
}

function createWorker(
  config: HostConfig,
  log: Logger,
  connection: NativeConnection,
  hostId: string,
  activities: HostActivities,
): Promise<Worker> {
  return Worker.create({
    connection,
    namespace: config.temporalNamespace,
    taskQueue: hostQueue(hostId),
    identity: hostId,
    activities: { ...activities },
    interceptors: { activity: [() => ({ inbound: new FailureInterceptor(config.hostName, log) })] },
    maxConcurrentActivityTaskExecutions: MAX_STEPS,
    // Cancellation reaches a step in the answer to a heartbeat.
    maxHeartbeatThrottleInterval: '5 seconds',
    shutdownGraceTime: '60 seconds',
    shutdownForceTime: '90 seconds',
  });
}

main().then(
  // Kept connections to the API would hold the process for some seconds more.
  () => process.exit(),
  (err: unknown) => {
    process.stderr.write(`host worker: ${lastWords(err)}\n`);
    process.exit(exitStatusOf(err));
  },
);
