import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { CliError } from '../cli-error.js';
import { PROJECT_ROOT } from '../project-root.js';
import { runCommand } from './command.js';
import { pinoReady, type ServiceSpec } from './service.js';

type Environment = Readonly<Record<string, string>>;

/** What the API and the control worker are told. */
export interface ControlPlaneSettings {
  databaseUrl: string;
  temporalAddress: string;
  temporalNamespace: string;
  temporalUiUrl: string | undefined;
  apiListen: string;
  registrationToken: string;
  apiKey: string;
}

export interface HostSettings {
  apiUrl: string;
  registrationToken: string;
  temporalAddress: string;
  temporalNamespace: string;
  dataDirectory: string;
  runDirectory: string;
  imagesFile: string;
}

/** For machines that are slow or busy: one that ends before it serves is noticed at once. */
const READY_MS = 600_000;

const node = (entry: string): [string, string, string] => [
  process.execPath,
  '--enable-source-maps',
  join(PROJECT_ROOT, 'dist', entry),
];

function ownProcess(
  name: string,
  entry: string,
  env: Record<string, string>,
  stopMs: number,
  readyMs: number,
): ServiceSpec {
  return {
    name,
    argv: node(entry),
    env,
    cwd: PROJECT_ROOT,
    stopSignal: 'SIGTERM',
    stopMs,
    readyMs,
    readyLine: pinoReady(name),
  };
}

export function checkBuilt(): void {
  const missing = ['api/main.js', 'api/worker.js', 'host-worker/main.js', 'migrations/run.js'].filter(
    (entry) => !existsSync(join(PROJECT_ROOT, 'dist', entry)),
  );
  if (missing.length === 0) return;
  throw new CliError(`not built: dist/${missing.join(', dist/')}`, {
    suggestion: 'run `npm run build` in the folder of torpor',
    code: 'not_built',
  });
}

export async function migrate(
  databaseUrl: string,
  inherited: Environment,
  onLine: (line: string) => void,
): Promise<string> {
  const env = { ...inherited, DATABASE_URL: databaseUrl };
  const { stdout } = await runCommand(node('migrations/run.js'), { env, timeoutMs: 300_000, onLine });
  return stdout.trim().split('\n').at(-1) ?? '';
}

export function controlWorker(settings: ControlPlaneSettings, inherited: Environment): ServiceSpec {
  return ownProcess('control-worker', 'api/worker.js', controlPlaneEnv(settings, inherited), 60_000, READY_MS);
}

export function api(settings: ControlPlaneSettings, inherited: Environment): ServiceSpec {
  return ownProcess('api', 'api/main.js', controlPlaneEnv(settings, inherited), 20_000, READY_MS);
}

export function hostWorker(settings: HostSettings, inherited: Environment): ServiceSpec {
  const env = {
    ...inherited,
    TORPOR_API_URL: settings.apiUrl,
    TORPOR_REGISTRATION_TOKEN: settings.registrationToken,
    TEMPORAL_ADDRESS: settings.temporalAddress,
    TEMPORAL_NAMESPACE: settings.temporalNamespace,
    TORPOR_DATA_DIR: settings.dataDirectory,
    TORPOR_RUN_DIR: settings.runDirectory,
    TORPOR_IMAGES: settings.imagesFile,
  };
  // Its shutdown waits for the steps that are under way, for 90 s at most.
  return ownProcess('host-worker', 'host-worker/main.js', env, 100_000, READY_MS);
}

function controlPlaneEnv(settings: ControlPlaneSettings, inherited: Environment): Record<string, string> {
  return {
    ...inherited,
    DATABASE_URL: settings.databaseUrl,
    TEMPORAL_ADDRESS: settings.temporalAddress,
    TEMPORAL_NAMESPACE: settings.temporalNamespace,
    TORPOR_API_LISTEN: settings.apiListen,
    TORPOR_REGISTRATION_TOKEN: settings.registrationToken,
    TORPOR_BOOTSTRAP_API_KEY: settings.apiKey,
    ...(settings.temporalUiUrl === undefined ? {} : { TORPOR_TEMPORAL_UI_URL: settings.temporalUiUrl }),
  };
}
