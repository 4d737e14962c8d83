import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../cli/platform/command.js';
import { RotatingLog } from '../../cli/platform/rotating-log.js';
import { describeEnd, Service, type ServiceSpec } from '../../cli/platform/service.js';
import type { ClusterBinaries } from './cluster-binaries.js';
import { clusterPorts, type ClusterPorts } from './cluster-ports.js';
import { readClusterSetup, type ClusterSetup, type OneShot } from './compose-file.js';
import { untilServing } from './server-health.js';

export interface ClusterOptions {
  /** For its log and its dynamic configuration; made when absent. Data is in Postgres alone. */
  directory: string;
  /** A server and a role of it that may make databases. */
  postgres: { host: string; port: number; user: string; password: string };
  binaries: ClusterBinaries;
  /** Of a server that ran before, so that its clients find it again. */
  ports?: ClusterPorts;
}

const HOST = '127.0.0.1';
/** Making the schema on a busy machine takes most of it. */
const ONE_SHOT_MS = 300_000;
const READY_MS = 120_000;

/**
 * A production server of Temporal on Postgres, set up by docker-compose.temporal.yml itself: its
 * environment, its dynamic configuration and the scripts of its one-shots, word for word. What
 * differs is where things listen, and that processes take the place of containers.
 */
export async function startClusterTemporal(options: ClusterOptions): Promise<ClusterTemporal> {
  const { directory, postgres, binaries } = options;
  const ports = options.ports ?? (await clusterPorts());
  const setup = readClusterSetup({ TEMPORAL_POSTGRES_PASSWORD: postgres.password });
  const scripts = new ClusterScripts(directory, binaries);
  const database = { SQL_HOST: postgres.host, SQL_PORT: String(postgres.port), SQL_USER: postgres.user };
  await scripts.prepare();
  await scripts.run(setup.schema, database);
  const cluster = new ClusterTemporal(await serverSpec(options, ports, setup), ports);
  await cluster.start();
  try {
    await scripts.run(setup.namespace, { TEMPORAL_ADDRESS: cluster.address });
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

export class ClusterTemporal {
  readonly address: string;
  readonly #log: RotatingLog;
  #service: Service | undefined;
  /** Once it is gone its pid may be somebody else's. */
  #running = false;

  constructor(
    private readonly spec: ServiceSpec,
    /** The same after every start. */
    readonly ports: ClusterPorts,
  ) {
    this.address = `${HOST}:${ports.FRONTEND_GRPC_PORT}`;
    this.#log = new RotatingLog(join(spec.cwd, `${spec.name}.log`));
  }

  /** Of the process that runs or ran last; it leads its own process group. */
  get pid(): number {
    const pid = this.#service?.pid;
    if (pid === undefined) throw new Error(`${this.spec.name} was never started`);
    return pid;
  }

  get logFile(): string {
    return this.#log.file;
  }

  /** Returns when the server answers. One that cannot be is ended. */
  async start(): Promise<void> {
    this.#log.write(`--- ${new Date().toISOString()} starting ${this.spec.argv.join(' ')}`);
    const service = new Service(this.spec, this.#log);
    this.#service = service;
    const gone = new AbortController();
    this.#running = true;
    const ended = service.exited.then((end) => {
      this.#running = false;
      throw new Error(
        `${this.spec.name} ended before it answered: ${describeEnd(end)}; read ${this.logFile}\n${service.tail}`,
      );
    });
    try {
      await Promise.race([untilServing(this.address, READY_MS, gone.signal), ended]);
    } catch (error) {
      gone.abort();
      await this.kill();
      throw error;
    }
  }

  /** In good order, as `docker compose stop`. */
  async stop(): Promise<void> {
    await this.#service?.stop();
    this.#log.close();
  }

  /** As a crash. Returns when it is gone; it may be gone already. */
  async kill(): Promise<void> {
    if (!this.#running) return;
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
    await this.#service?.exited;
  }

  /** What Docker does after a crash: the server alone, on the same data and ports. Returns when it answers. */
  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }
}

async function serverSpec(
  { directory, postgres, binaries }: ClusterOptions,
  ports: ClusterPorts,
  { environment, dynamicConfig, stopMs }: ClusterSetup,
): Promise<ServiceSpec> {
  const dynamicConfigFile = join(directory, 'dynamic-config.yaml');
  await writeFile(dynamicConfigFile, dynamicConfig);
  const listen = Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)]));
  return {
    name: 'cluster-temporal',
    argv: [binaries.server, 'start'],
    env: {
      ...environment,
      POSTGRES_SEEDS: postgres.host,
      DB_PORT: String(postgres.port),
      POSTGRES_USER: postgres.user,
      DYNAMIC_CONFIG_FILE_PATH: dynamicConfigFile,
      // In a container all addresses; here this machine's own alone.
      BIND_ON_IP: HOST,
      ...listen,
    },
    cwd: directory,
    stopSignal: 'SIGTERM',
    stopMs,
    readyMs: READY_MS,
    // Nothing that it says at its level of logging tells that it serves, so it is asked.
    readyLine: () => undefined,
  };
}

/** Runs the one-shots with the programs under the names that they have in the images. */
class ClusterScripts {
  readonly #bin: string;

  constructor(
    private readonly directory: string,
    private readonly binaries: ClusterBinaries,
  ) {
    this.#bin = join(directory, 'bin');
  }

  async prepare(): Promise<void> {
    await mkdir(this.#bin, { recursive: true });
    const links = { temporal: this.binaries.temporal, 'temporal-sql-tool': this.binaries.sqlTool };
    for (const [name, program] of Object.entries(links)) {
      await rm(join(this.#bin, name), { force: true });
      await symlink(program, join(this.#bin, name));
    }
  }

  async run({ argv, environment }: OneShot, here: Record<string, string>): Promise<void> {
    // A home of its own: in that of whoever runs the tests the client would find their settings.
    const env = { ...environment, ...here, HOME: this.directory, PATH: `${this.#bin}:/usr/bin:/bin` };
    await runCommand(argv, { env, cwd: this.directory, timeoutMs: ONE_SHOT_MS });
  }
}
