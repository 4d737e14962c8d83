import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CliConfig } from '../../cli/config.js';
import { freePorts } from '../../cli/platform/ports.js';
import { ensureDatabase, postgresUrl, preparePostgres } from '../../cli/platform/postgres-server.js';
import { pinoReady, type ServiceSpec } from '../../cli/platform/service.js';
import { PROJECT_ROOT } from '../../cli/project-root.js';
import { ChaosProcess } from '../../test/chaos/chaos-process.js';
import { ensureSimulatedVmm } from '../../test/simulator/build.js';
import type { SimulatedTimes } from '../../test/simulator/simulated-hypervisor.js';
import { clearMachine } from './machine-clean-up.js';
import { Refused, type Claim, type Orchestrator } from './orchestrator.js';
import type { ToySettings } from './toys/toy-process.js';
import { STATUS, type ToySandbox } from './toys/toy.js';

type Kind = ToySettings['kind'];

const NAMES: Record<Kind, string> = {
  'in-memory': 'in-memory loop',
  cron: 'cron with database locks',
  'careful-cron': 'the same, looking first',
};
const PASSWORD = 'toy';
const READY_MS = 60_000;
const STOP_MS = 2_000;

/** A toy in a process of its own that can be killed, with its Postgres if it has one. */
export class ToyOrchestrator implements Orchestrator {
  readonly name: string;

  private constructor(
    kind: Kind,
    private readonly home: string,
    readonly host: Orchestrator['host'],
    private readonly url: string,
    private readonly toy: ChaosProcess,
    private readonly postgres: ChaosProcess | undefined,
  ) {
    this.name = NAMES[kind];
  }

  static async start(
    kind: Kind,
    config: CliConfig,
    times: SimulatedTimes,
    note: (text: string) => void,
  ): Promise<ToyOrchestrator> {
    // Not below the default temporary directory, which may be in memory.
    const home = await mkdtemp(`/var/tmp/torpor-bench-${kind}-`);
    // The database's user passes through, and so does a VMM's.
    await chmod(home, 0o711);
    const host = { data: join(home, 'host'), run: join(home, 'run'), ledger: join(home, 'ledger.jsonl') };
    for (const directory of [host.data, host.run]) await mkdir(directory, { mode: 0o711 });
    const [port = 0, postgresPort = 0] = await freePorts(2);
    const database = kind === 'in-memory' ? undefined : await startPostgres(home, config.cacheDir, postgresPort, note);
    const simulated = { ledger: host.ledger, times, binary: await ensureSimulatedVmm() };
    const databaseUrl = kind === 'in-memory' ? {} : { databaseUrl: postgresUrl(postgresPort, PASSWORD) };
    const spec = toySpec({ kind, port, simulated, ...databaseUrl }, host, config);
    const toy = new ChaosProcess(spec, join(home, 'toy.log'), note);
    const started = new ToyOrchestrator(kind, home, host, `http://127.0.0.1:${port}/sandboxes`, toy, database);
    await toy.start();
    return started;
  }

  async create(name: string, timeoutSeconds: number): Promise<string> {
    const { id } = await this.#ask<ToySandbox>('POST', '', { name, timeout_seconds: timeoutSeconds });
    return id;
  }

  async pause(id: string): Promise<void> {
    await this.#ask('POST', `/${id}/pause`);
  }

  async resume(id: string): Promise<void> {
    await this.#ask('POST', `/${id}/resume`);
  }

  async destroy(id: string): Promise<void> {
    await this.#ask('DELETE', `/${id}`);
  }

  async claim(id: string): Promise<Claim> {
    const { status, body } = await this.#send('GET', `/${id}`);
    if (status === STATUS.notFound) return 'unknown';
    return claimOf(body as ToySandbox);
  }

  async claims(): Promise<Map<string, Claim>> {
    const sandboxes = await this.#ask<ToySandbox[]>('GET', '');
    return new Map(sandboxes.map((sandbox) => [sandbox.id, claimOf(sandbox)]));
  }

  async exec(id: string, command: string): Promise<string> {
    const run = await this.#ask<{ exitCode: number; output: string }>('POST', `/${id}/exec`, { command });
    if (run.exitCode === 0) return run.output.trim();
    throw new Refused(`${command} in ${id}: exit code ${run.exitCode}: ${run.output}`);
  }

  requestOf(id: string): string {
    return id.slice(0, id.lastIndexOf('x'));
  }

  async killAndRestart(): Promise<void> {
    await this.toy.kill();
    await this.toy.start();
  }

  async close(): Promise<void> {
    await this.toy.stop();
    await this.postgres?.stop();
    await clearMachine(this.host);
    await rm(this.home, { recursive: true, force: true });
  }

  async #ask<T>(method: string, path: string, body?: object): Promise<T> {
    const { status, body: answer } = await this.#send(method, path, body);
    if (status < 400) return answer as T;
    const { error, id } = answer as { error: string; id?: string };
    throw new Refused(`${method} ${path}: ${status} ${error}`, id);
  }

  async #send(method: string, path: string, body?: object): Promise<{ status: number; body: unknown }> {
    const response = await fetch(this.url + path, { method, ...(body ? { body: JSON.stringify(body) } : {}) });
    return { status: response.status, body: await response.json() };
  }
}

function claimOf({ state }: ToySandbox): Claim {
  return state === 'running' || state === 'paused' || state === 'error' ? state : 'busy';
}

function toySpec(settings: ToySettings, host: Orchestrator['host'], config: CliConfig): ServiceSpec {
  const loader = join(PROJECT_ROOT, 'test/tools/typescript.mjs');
  const entry = join(PROJECT_ROOT, 'bench/durability/toys/toy-process.ts');
  return {
    name: settings.kind,
    argv: [process.execPath, '--import', loader, entry, JSON.stringify(settings)],
    env: {
      ...config.inherited,
      TORPOR_DATA_DIR: host.data,
      TORPOR_RUN_DIR: host.run,
      // Its default, in which the clean-up looks as well.
      TORPOR_NETWORK_CIDR: '',
    },
    cwd: PROJECT_ROOT,
    stopSignal: 'SIGTERM',
    stopMs: STOP_MS,
    readyMs: READY_MS,
    readyLine: pinoReady(settings.kind),
  };
}

async function startPostgres(
  home: string,
  cacheDir: string,
  port: number,
  note: (text: string) => void,
): Promise<ChaosProcess> {
  const directory = join(home, 'postgres');
  const spec = await preparePostgres({ cacheDir, directory, port, password: PASSWORD });
  const postgres = new ChaosProcess(spec, join(home, 'postgres.log'), note);
  await postgres.start();
  await ensureDatabase(port, PASSWORD);
  return postgres;
}
