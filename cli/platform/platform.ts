import { CliError } from '../cli-error.js';
import type { CliConfig, Credentials } from '../config.js';
import type { StepReport } from '../step-report.js';
import { chosenImages } from './guest-image.js';
import { Home } from './home.js';
import { acquireLock, type Lock } from './lock.js';
import * as own from './own-processes.js';
import { checkPorts, freePorts, type PortWish } from './ports.js';
import { ensureDatabase, postgresUrl, preparePostgres } from './postgres-server.js';
import { RotatingLog } from './rotating-log.js';
import type { ServiceSpec } from './service.js';
import { endLeftovers, Supervisor, type SupervisorEvents } from './supervisor.js';
import { ensureTemporal } from './temporal-binary.js';
import { connectTemporal, ensureSearchAttributes } from './temporal-connection.js';
import { temporalService } from './temporal-server.js';

export interface PlatformPorts {
  api: number;
  postgres: number;
  temporal: number;
  temporalUi: number;
}

export interface PlatformOptions {
  home: string;
  /** Undefined: whichever are free. */
  ports: PlatformPorts | undefined;
  /** Of the default directory, whose sockets have the well-known place. */
  isDefaultHome: boolean;
}

const LOOPBACK = '127.0.0.1';

/** All processes of a platform on this machine: started in order, kept running, stopped in reverse. */
export class Platform {
  readonly home: Home;
  readonly #supervisor: Supervisor;
  #lock: Lock | undefined;

  constructor(
    private readonly config: CliConfig,
    private readonly options: PlatformOptions,
    private readonly report: StepReport,
    events: SupervisorEvents,
  ) {
    this.home = new Home(options.home);
    this.#supervisor = new Supervisor(
      this.home.processesFile,
      (name) => new RotatingLog(this.home.logFile(name)),
      events,
    );
  }

  /** Takes the directory: from here on nobody else starts a platform in it. */
  claim(): void {
    if (process.getuid?.() !== 0) {
      throw new CliError('a platform needs root: it makes network namespaces, taps and users for its machines', {
        suggestion: 'sudo torpor up',
        code: 'not_root',
      });
    }
    this.home.prepare();
    this.#lock = acquireLock(this.home.lockFile);
    try {
      this.home.checkSpace();
      own.checkBuilt();
    } catch (error) {
      this.#lock.release();
      throw error;
    }
  }

  /** Starts everything that the environment does not name a server for. Returns how to reach it. */
  async start(): Promise<{ credentials: Credentials; keyIsNew: boolean }> {
    const leftovers = await endLeftovers(this.home.processesFile);
    if (leftovers.length > 0)
      this.report.done('leftovers', `ended ${leftovers.join(', ')} of a torpor that was killed`, 0);
    const ports = await this.#choosePorts();
    const { secrets, made } = this.home.secrets();

    const databaseUrl = await this.#startPostgres(ports.postgres, secrets.postgresPassword);
    await this.report.step(
      'migrations',
      (note) => own.migrate(databaseUrl, this.config.inherited, note),
      (line) => line,
    );
    const temporal = await this.#startTemporal(ports);
    const credentials: Credentials = {
      api_url: `http://${LOOPBACK}:${ports.api}`,
      api_key: secrets.apiKey,
      temporal_ui_url: temporal.uiUrl ?? null,
      temporal_address: temporal.address,
      temporal_namespace: this.config.temporalNamespace,
      home: this.options.home,
    };
    await this.#startOwn(credentials, databaseUrl, secrets.registrationToken);
    this.home.writeCredentials(credentials);
    return { credentials, keyIsNew: made };
  }

  async stop(): Promise<void> {
    await this.#supervisor.stop((name, ms) => this.report.done(`stopped ${name}`, '', ms));
    this.#lock?.release();
  }

  async #choosePorts(): Promise<PlatformPorts> {
    const { ports } = this.options;
    if (ports === undefined) {
      const [api, postgres, temporal, temporalUi] = await freePorts(4);
      return { api: api ?? 0, postgres: postgres ?? 0, temporal: temporal ?? 0, temporalUi: temporalUi ?? 0 };
    }
    const wishes: PortWish[] = [{ what: 'the API', flag: '--port', port: ports.api }];
    if (this.config.databaseUrl === undefined)
      wishes.push({ what: 'Postgres', flag: '--postgres-port', port: ports.postgres });
    if (this.config.temporalAddress === undefined) {
      wishes.push(
        { what: 'Temporal', flag: '--temporal-port', port: ports.temporal },
        { what: "Temporal's UI", flag: '--ui-port', port: ports.temporalUi },
      );
    }
    await checkPorts(wishes, LOOPBACK);
    return ports;
  }

  async #startPostgres(port: number, password: string): Promise<string> {
    if (this.config.databaseUrl !== undefined) return this.config.databaseUrl;
    const { cacheDir } = this.config;
    await this.report.step(
      'postgres',
      async (note) => {
        note('preparing its data');
        const spec = await preparePostgres({ cacheDir, directory: this.home.postgresDirectory, port, password });
        await this.#supervisor.start(spec);
        await ensureDatabase(port, password);
      },
      () => `${LOOPBACK}:${port}`,
    );
    return postgresUrl(port, password);
  }

  async #startTemporal(ports: PlatformPorts): Promise<{ address: string; uiUrl: string | undefined }> {
    const namespace = this.config.temporalNamespace;
    const given = this.config.temporalAddress;
    const address = given ?? `${LOOPBACK}:${ports.temporal}`;
    await this.report.step(
      'temporal',
      async (note) => {
        if (given === undefined) {
          const { path: binary } = await ensureTemporal(this.config, note);
          await this.#supervisor.start(
            temporalService({
              binary,
              database: this.home.temporalDatabase,
              port: ports.temporal,
              uiPort: ports.temporalUi,
              namespace,
            }),
          );
        }
        const connection = await connectTemporal({ address, namespace });
        try {
          return await ensureSearchAttributes(connection, namespace);
        } finally {
          await connection.close();
        }
      },
      (made) => `${address}${made.length === 0 ? '' : `, registered ${made.join(', ')}`}`,
    );
    return {
      address,
      uiUrl: this.config.temporalUiUrl ?? (given === undefined ? `http://${LOOPBACK}:${ports.temporalUi}` : undefined),
    };
  }

  /**
   * The host worker last: one that starts before the API goes on with what it knows, and
   * tells where its data plane is only with its next heartbeat.
   */
  async #startOwn(credentials: Credentials, databaseUrl: string, registrationToken: string): Promise<void> {
    const temporal = {
      temporalAddress: credentials.temporal_address,
      temporalNamespace: credentials.temporal_namespace,
    };
    const control = {
      ...temporal,
      databaseUrl,
      registrationToken,
      temporalUiUrl: credentials.temporal_ui_url ?? undefined,
      apiListen: credentials.api_url.replace('http://', ''),
      apiKey: credentials.api_key,
    };
    const host = {
      ...temporal,
      registrationToken,
      apiUrl: credentials.api_url,
      dataDirectory: this.home.hostDirectory,
      runDirectory: this.config.inherited.TORPOR_RUN_DIR ?? this.home.runDirectory(this.options.isDefaultHome),
      imagesFile: chosenImages(this.config),
    };
    const { inherited } = this.config;
    await Promise.all([
      this.#startOne(own.controlWorker(control, inherited)),
      this.#startOne(own.api(control, inherited)),
    ]);
    await this.#startOne(own.hostWorker(host, inherited));
  }

  async #startOne(spec: ServiceSpec): Promise<void> {
    const started = performance.now();
    const { url } = await this.#supervisor.start(spec);
    this.report.done(spec.name, typeof url === 'string' ? url : '', performance.now() - started);
  }
}
