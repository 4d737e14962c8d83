import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NativeConnection, Worker } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { HostActivities, HostCare } from '../activities/host/contract.js';
import { createHostActivities } from '../activities/host/host-activities.js';
import { createHostCare } from '../activities/host/host-care.js';
import type { HostPorts } from '../activities/host/ports.js';
import { StepGate } from '../activities/host/step-gate.js';
import { installTemporalRuntime } from '../activities/temporal-runtime.js';
import { hostQueue } from '../workflows/contract/ids.js';
import { Caretaking } from './caretaking.js';
import type { HostConfig } from './config.js';
import { ControlPlaneClient } from './control-plane.client.js';
import { ConnectionRegistry } from './data-plane/connection-registry.js';
import { DataPlaneServer } from './data-plane/data-plane.server.js';
import { FailureInterceptor } from './failure.js';
import { CredentialsFile, JOURNAL, type HostCredentials } from './host-credentials.js';
import { hostFacts } from './host-facts.js';
import { FileJournal } from './journal.js';
import type { MachineDrivers } from './machine-drivers.js';
import { Registration } from './registration.js';
import { Upkeep } from './upkeep.js';
import { WorkerLock } from './worker-lock.js';

const HEARTBEAT_MS = 5_000;
/** Steps at the same time. More would only make every guest of a small machine start slower. */
const MAX_STEPS = 16;
const TEMPORAL_RETRY_MS = 2_000;

/** What a host worker is made of beside its configuration; fault tests run the same worker over other parts. */
export interface HostWorkerParts {
  openDrivers(config: HostConfig, log: Logger): Promise<MachineDrivers>;
  /** Laid around the activities before they are registered. */
  around?: <T extends object>(activities: T) => T;
}

/**
 * Serves one machine: its steps from queue `host-<id>`, and bytes into its guests. VMs
 * are processes of their own and go on whatever happens to this one.
 */
export class HostWorker {
  readonly #stopping = new AbortController();
  readonly #closers: (() => Promise<unknown>)[] = [];

  constructor(
    private readonly config: HostConfig,
    private readonly log: Logger,
    private readonly parts: HostWorkerParts,
  ) {}

  /** Until SIGTERM or SIGINT, which it drains on. */
  async run(): Promise<void> {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        this.log.info({ signal }, 'draining');
        this.#stopping.abort();
      });
    }
    try {
      await this.#serve();
    } catch (err) {
      // A signal may cut short what was still waited for at start.
      if (!this.#stopping.signal.aborted) throw err;
    } finally {
      for (const close of this.#closers.reverse()) await close();
    }
    this.log.info('stopped; VMs go on');
  }

  async #serve(): Promise<void> {
    const { config, log } = this;
    await this.#lock();
    const drivers = await this.parts.openDrivers(config, log);
    this.#closers.push(() => drivers.close());
    const upkeep = new Upkeep(drivers.upkeep, log);
    upkeep.start();
    this.#closers.push(() => upkeep.stop());
    const file = new CredentialsFile(config.dataDir);
    const credentials = await file.load();
    const connections = new ConnectionRegistry((id) => drivers.ports.network.find(id));
    const dataPlaneUrl = await this.#openDataPlane(drivers, connections, credentials.dataPlaneToken);

    const client = new ControlPlaneClient(config.apiUrl, () => credentials.registered?.token);
    const registration = this.#registration(client, file, credentials, () =>
      hostFacts(config, drivers, { url: dataPlaneUrl, token: credentials.dataPlaneToken }),
    );
    const hostId = await registration.enter();

    const journal = await FileJournal.open(join(config.dataDir, JOURNAL), hostId, log);
    const ports: HostPorts = { ...drivers.ports, controlPlane: client, journal };
    const gate = new StepGate();
    const caretaking = new Caretaking({ ports, journal, gate, assigned: () => client.assigned(), log }, connections);
    await caretaking.start();
    this.#closers.push(() => caretaking.stop());

    const activities = {
      ...createHostActivities(ports, { connections, gate, log }),
      ...createHostCare(ports, { connections, gate, log }),
    };
    await this.#serveSteps(registration, hostId, activities, dataPlaneUrl);
  }

  async #serveSteps(
    registration: Registration,
    hostId: string,
    activities: HostActivities & HostCare,
    dataPlaneUrl: string,
  ): Promise<void> {
    const { log } = this;
    const { signal } = this.#stopping;
    installTemporalRuntime(log);
    const connection = await this.#connectTemporal();
    this.#closers.push(() => connection.close());
    const worker = await this.#createWorker(connection, hostId, activities);
    signal.addEventListener('abort', () => {
      if (worker.getState() === 'RUNNING') worker.shutdown();
    });
    if (signal.aborted) return;
    registration.keep((err) => {
      log.error({ err }, 'this machine became another host');
      process.exitCode = 1;
      this.#stopping.abort();
    });
    this.#closers.push(() => registration.leave());
    log.info({ ready: 'host-worker', hostId, dataPlaneUrl }, 'ready');
    await worker.run();
  }

  async #lock(): Promise<void> {
    for (const [directory, variable] of [
      [this.config.dataDir, 'TORPOR_DATA_DIR'],
      [this.config.runDir, 'TORPOR_RUN_DIR'],
    ] as const) {
      const lock = await WorkerLock.take(directory, variable);
      this.#closers.push(() => lock.release());
    }
  }

  /** Returns where the API reaches it. */
  async #openDataPlane(drivers: MachineDrivers, connections: ConnectionRegistry, token: string): Promise<string> {
    const { dataPlane } = this.config;
    const server = new DataPlaneServer({
      token,
      connections,
      consoleLog: (id, maxBytes) => drivers.ports.hypervisor.consoleLog(id, maxBytes),
      networkCounters: (id) => drivers.ports.network.counters(id),
      log: this.log,
    });
    const listening = await server.listen(dataPlane.host, dataPlane.port);
    this.#closers.push(() => server.close());
    return dataPlane.advertisedUrl ?? listening;
  }

  #registration(
    client: ControlPlaneClient,
    file: CredentialsFile,
    credentials: HostCredentials,
    info: () => ReturnType<typeof hostFacts>,
  ): Registration {
    const { log } = this;
    const { registrationToken } = this.config;
    const registration = new Registration({
      ...{ client, file, credentials, log, registrationToken, info },
      heartbeatMs: HEARTBEAT_MS,
    });
    this.#stopping.signal.addEventListener('abort', () => void registration.leave());
    return registration;
  }

  /** Temporal may come up after this process, as at the start of a machine. */
  async #connectTemporal(): Promise<NativeConnection> {
    const address = this.config.temporalAddress;
    for (;;) {
      try {
        return await NativeConnection.connect({ address });
      } catch (err) {
        this.log.warn({ err, address, retryInMs: TEMPORAL_RETRY_MS }, 'Temporal cannot be reached');
        await sleep(TEMPORAL_RETRY_MS, undefined, { signal: this.#stopping.signal });
      }
    }
  }

  #createWorker(connection: NativeConnection, hostId: string, activities: HostActivities & HostCare): Promise<Worker> {
    const around = this.parts.around ?? ((plain) => plain);
    return Worker.create({
      connection,
      namespace: this.config.temporalNamespace,
      taskQueue: hostQueue(hostId),
      identity: hostId,
      activities: { ...around(activities) },
      interceptors: { activity: [() => ({ inbound: new FailureInterceptor(this.config.hostName, this.log) })] },
      maxConcurrentActivityTaskExecutions: MAX_STEPS,
      // Cancellation reaches a step in the answer to a heartbeat.
      maxHeartbeatThrottleInterval: '5 seconds',
      shutdownGraceTime: '60 seconds',
      shutdownForceTime: '90 seconds',
    });
  }
}
