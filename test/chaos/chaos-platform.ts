import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig, type CliConfig } from '../../cli/config.js';
import { imagesFile } from '../../cli/platform/guest-image.js';
import { Home } from '../../cli/platform/home.js';
import * as own from '../../cli/platform/own-processes.js';
import { freePorts } from '../../cli/platform/ports.js';
import { ensureDatabase, postgresUrl, preparePostgres } from '../../cli/platform/postgres-server.js';
import type { ServiceSpec } from '../../cli/platform/service.js';
import { ensureTemporal } from '../../cli/platform/temporal-binary.js';
import { temporalService } from '../../cli/platform/temporal-server.js';
import { ensureClusterBinaries } from '../cluster/cluster-binaries.js';
import { startClusterTemporal } from '../cluster/cluster-temporal.js';
import { Api } from '../support/e2e-api.js';
import { ROOT } from '../support/root.js';
import { ensureSimulatedVmm } from '../simulator/build.js';
import type { SimulatedTimes } from '../simulator/simulated-hypervisor.js';
import { type HostMachine, OwnMachine } from './host-machine.js';
import { LabHostMachine } from './lab-host-machine.js';
import { type LabDrivers, labHostWorker } from './lab-host-worker.js';
import type { Addresses } from './addresses.js';
import { LabProcess } from './lab-process.js';
import { ChaosProcess, type Killable, type ProcessName } from './chaos-process.js';
import { Director } from './director.js';

export interface PlatformKind {
  /** Real VMs in the place of simulated ones. */
  qemu: boolean;
  /** A cluster's Temporal server on Postgres in the place of the development server. */
  cluster: boolean;
  times: SimulatedTimes;
  /** Real VMs of these drivers, in a lab where the host worker runs too. */
  lab?: LabDrivers & { memoryMb?: number };
}

/** How much slower than the simulated one a machine of this kind may be. */
export function paceOf({ lab }: PlatformKind): number {
  return lab === undefined ? 1 : LAB_PACE;
}

export function hasRealVms({ qemu, lab }: PlatformKind): boolean {
  return qemu || lab !== undefined;
}

const LAB_PACE = 5;

const LOOPBACK = '127.0.0.1';
/** What the simulated machine offers. A real one offers what it has. */
const CAPACITY = { TORPOR_CAPACITY_VCPUS: '1024', TORPOR_CAPACITY_MEMORY_MB: '1048576' };

/** A whole platform in a directory of its own whose five processes can be killed and started one by one. */
export class ChaosPlatform {
  readonly #processes = new Map<ProcessName, Killable>();
  #lab: LabHostMachine | undefined;
  #directorPort: number | undefined;

  private constructor(
    readonly kind: PlatformKind,
    readonly home: Home,
    readonly director: Director,
    readonly addresses: Addresses,
    readonly api: Api,
    /** Told of what no case asked for, such as a process that ends by itself. */
    private readonly note: (text: string) => void,
  ) {}

  static async start(kind: PlatformKind, note: (text: string) => void): Promise<ChaosPlatform> {
    own.checkBuilt();
    const home = new Home(await realpath(await mkdtemp(join(tmpdir(), 'torpor-chaos-'))));
    home.prepare();
    const director = await Director.listen(join(home.directory, 'director.sock'));
    const [apiPort = 0, postgresPort = 0, temporalPort = 0, uiPort = 0] = await freePorts(4);
    const { secrets } = home.secrets();
    const config = ownServersOnly(readConfig(), home.directory);
    const addresses = {
      databaseUrl: postgresUrl(postgresPort, secrets.postgresPassword),
      temporal: `${LOOPBACK}:${temporalPort}`,
      api: `http://${LOOPBACK}:${apiPort}`,
    };
    const api = new Api(addresses.api, secrets.apiKey);
    const platform = new ChaosPlatform(kind, home, director, addresses, api, note);
    try {
      if (kind.lab !== undefined) {
        const { memoryMb } = kind.lab;
        const memory = memoryMb === undefined ? {} : { memoryMb };
        platform.#lab = await LabHostMachine.start({ directory: join(home.directory, 'lab'), ...memory });
      }
      await platform.#startServers(config, { postgresPort, temporalPort, uiPort });
      await platform.#startOwn(config);
    } catch (error) {
      await platform.stop();
      throw error;
    }
    return platform;
  }

  get ledger(): string {
    return join(this.home.directory, 'vmm-ledger.jsonl');
  }

  /** File of faults that the simulated hypervisor reads before each call. */
  get faults(): string {
    return join(this.home.directory, 'faults.json');
  }

  /** Where the host worker runs that was started with the platform, if that is a lab. */
  get lab(): LabHostMachine | undefined {
    return this.#lab;
  }

  /** The machine of the host worker. */
  get machine(): HostMachine {
    const { hostDirectory } = this.home;
    return this.#lab ?? new OwnMachine({ hostDirectory, runDirectory: this.runDirectory });
  }

  get runDirectory(): string {
    return this.home.runDirectory(false);
  }

  process(name: ProcessName): Killable {
    const found = this.#processes.get(name);
    if (found === undefined) throw new Error(`${name} was not started`);
    return found;
  }

  pids(): number[] {
    return [...this.#processes.values()].map(({ pid }) => pid);
  }

  logFiles(): string[] {
    return [...this.#processes.values()].map(({ logFile }) => logFile);
  }

  /** Last started, first stopped. */
  async stop(): Promise<void> {
    for (const process of [...this.#processes.values()].reverse()) await process.stop();
    await this.#lab?.lab.kill();
    await this.director.close();
  }

  /** For a platform whose machines have all ended. */
  async removeFiles(): Promise<void> {
    await rm(this.runDirectory, { recursive: true, force: true });
    await rm(this.home.directory, { recursive: true, force: true });
  }

  async #startServers(
    config: CliConfig,
    ports: { postgresPort: number; temporalPort: number; uiPort: number },
  ): Promise<void> {
    const { postgresPassword: password } = this.home.secrets().secrets;
    const { cacheDir } = config;
    const directory = this.home.postgresDirectory;
    await this.#startOne(
      'postgres',
      await preparePostgres({ cacheDir, directory, port: ports.postgresPort, password }),
    );
    await ensureDatabase(ports.postgresPort, password);
    await own.migrate(this.addresses.databaseUrl, config.inherited, () => undefined);
    if (this.kind.cluster) {
      const postgres = { host: LOOPBACK, port: ports.postgresPort, user: 'torpor', password };
      const binaries = await ensureClusterBinaries(cacheDir, this.note);
      const cluster = await startClusterTemporal({
        directory: join(this.home.directory, 'temporal'),
        postgres,
        binaries,
      });
      this.addresses.temporal = cluster.address;
      this.#processes.set('temporal', cluster);
      return;
    }
    const { path: binary } = await ensureTemporal(config, this.note);
    const { temporalPort: port, uiPort } = ports;
    const database = this.home.temporalDatabase;
    await this.#startOne('temporal', temporalService({ binary, database, port, uiPort, namespace: 'default' }));
  }

  async #startOwn(config: CliConfig): Promise<void> {
    const { secrets } = this.home.secrets();
    const temporal = { temporalAddress: this.addresses.temporal, temporalNamespace: 'default' };
    const control: own.ControlPlaneSettings = {
      ...temporal,
      databaseUrl: this.addresses.databaseUrl,
      registrationToken: secrets.registrationToken,
      temporalUiUrl: undefined,
      apiListen: this.addresses.api.replace('http://', ''),
      apiKey: secrets.apiKey,
    };
    const { inherited } = config;
    await this.#startOne('control-worker', this.#directed(own.controlWorker(control, inherited), []));
    await this.#startOne('api', own.api(control, inherited));
    if (this.#lab !== undefined && this.kind.lab !== undefined) return this.#startInLab(this.#lab, this.kind.lab);
    const host: own.HostSettings = {
      ...temporal,
      registrationToken: secrets.registrationToken,
      apiUrl: this.addresses.api,
      dataDirectory: this.home.hostDirectory,
      runDirectory: this.runDirectory,
      imagesFile: imagesFile(config.cacheDir),
    };
    const hostEnv = this.kind.qemu ? inherited : { ...inherited, ...CAPACITY };
    const simulated = { ledger: this.ledger, faults: this.faults, times: this.kind.times };
    const vmm = this.kind.qemu
      ? []
      : ['--simulated', JSON.stringify({ ...simulated, binary: await ensureSimulatedVmm() })];
    await this.#startOne('host-worker', this.#directed(own.hostWorker(host, hostEnv), vmm));
  }

  /** The host worker among its VMs, and all others here, where they are quick. */
  async #startInLab(machine: LabHostMachine, drivers: LabDrivers): Promise<void> {
    const worker = await this.labWorker(machine, drivers, 'host-worker');
    this.#processes.set('host-worker', worker);
    await worker.start();
  }

  /** One more host worker for this platform, in a lab; whoever asks for it starts and stops it. */
  async labWorker(machine: LabHostMachine, drivers: LabDrivers, name: string): Promise<LabProcess> {
    const { registrationToken } = this.home.secrets().secrets;
    this.#directorPort ??= await this.director.listenOnLoopback();
    const outside = { addresses: this.addresses, registrationToken, directorPort: this.#directorPort };
    const { lab, places } = machine;
    await lab.run(['mkdir', '-p', ...Object.values(places)], { check: true });
    return new LabProcess(lab, labHostWorker(machine, drivers, outside), this.home.logFile(name), this.note);
  }

  /** The process's own entry replaced by the one that asks the director. */
  #directed(spec: ServiceSpec, more: readonly string[]): ServiceSpec {
    const loader = join(ROOT, 'test/tools/typescript.mjs');
    const entry = join(ROOT, 'test/chaos', `${spec.name}-process.ts`);
    const argv = [
      process.execPath,
      '--import',
      loader,
      entry,
      '--director',
      this.director.socketPath,
      ...more,
    ] as const;
    return { ...spec, argv };
  }

  async #startOne(name: ProcessName, spec: ServiceSpec): Promise<void> {
    const started = new ChaosProcess(spec, this.home.logFile(name), this.note);
    this.#processes.set(name, started);
    await started.start();
  }
}

/** What the environment says of servers and directories is for the platform of whoever runs this. */
function ownServersOnly(config: CliConfig, home: string): CliConfig {
  const foreign =
    /^(DATABASE_URL|TEMPORAL_|TORPOR_(RUN_DIR|DATA_|API_|HOST_|TEMPORAL_UI|REGISTRATION|BOOTSTRAP|NETWORK|CAPACITY))/;
  const inherited = Object.fromEntries(Object.entries(config.inherited).filter(([name]) => !foreign.test(name)));
  return { ...config, home, inherited, databaseUrl: undefined, temporalAddress: undefined };
}
