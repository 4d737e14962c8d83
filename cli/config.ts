import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { DISKS, type DriverWishes, HYPERVISORS } from '../host-worker/driver-choice.js';
import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';

/** What the environment says. The only reader of process.env in the command. */
export interface CliConfig {
  apiUrl: string | undefined;
  apiKey: string | undefined;
  /** Data of `torpor up`. */
  home: string;
  /** What `torpor setup` fetches and builds; safe to delete. */
  cacheDir: string;
  /** Index of images that were built elsewhere and brought here: none are built then. */
  images: string | undefined;
  temporalBin: string | undefined;
  databaseUrl: string | undefined;
  temporalAddress: string | undefined;
  temporalNamespace: string;
  temporalUiUrl: string | undefined;
  wishes: DriverWishes;
  cloudHypervisorBin: string | undefined;
  /** Control group for VMs, where a service manager made one. */
  vmCgroup: string | undefined;
  vmUser: string;
  path: string;
  /** Handed on to the processes that `torpor` starts: PATH, proxies, settings of the host worker. */
  inherited: Readonly<Record<string, string>>;
}

/** Where a platform of root keeps its data unless told otherwise. */
export const DEFAULT_ROOT_HOME = '/var/lib/torpor';

export interface Credentials {
  api_url: string;
  api_key: string;
  temporal_ui_url: string | null;
  temporal_address: string;
  temporal_namespace: string;
  home: string;
}

export function readConfig(): CliConfig {
  const env = process.env;
  const root = process.getuid?.() === 0;
  const inherited = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const text = (name: string) => (env[name] === undefined || env[name] === '' ? undefined : env[name]);
  return {
    apiUrl: text('TORPOR_API_URL'),
    apiKey: text('TORPOR_API_KEY'),
    home: resolve(text('TORPOR_HOME') ?? (root ? DEFAULT_ROOT_HOME : join(homedir(), '.local/share/torpor'))),
    cacheDir: resolve(text('TORPOR_CACHE_DIR') ?? (root ? '/var/cache/torpor' : join(homedir(), '.cache/torpor'))),
    images: text('TORPOR_IMAGES'),
    temporalBin: text('TORPOR_TEMPORAL_BIN'),
    databaseUrl: text('DATABASE_URL'),
    temporalAddress: text('TEMPORAL_ADDRESS'),
    temporalNamespace: text('TEMPORAL_NAMESPACE') ?? 'default',
    temporalUiUrl: text('TORPOR_TEMPORAL_UI_URL'),
    wishes: {
      hypervisor: oneOf('TORPOR_HYPERVISOR', text('TORPOR_HYPERVISOR'), ['auto', ...HYPERVISORS]),
      disk: oneOf('TORPOR_DISK', text('TORPOR_DISK'), ['auto', ...DISKS]),
      accel: oneOf('TORPOR_QEMU_ACCEL', text('TORPOR_QEMU_ACCEL'), ['auto', 'kvm', 'tcg']),
    },
    cloudHypervisorBin: text('TORPOR_CLOUD_HYPERVISOR_BIN'),
    vmCgroup: text('TORPOR_VM_CGROUP'),
    vmUser: text('TORPOR_VM_USER') ?? 'torpor-vm',
    path: text('PATH') ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    inherited,
  };
}

/** Where `torpor up` leaves the address and key of the platform, for later commands on this machine. */
export function credentialsFile(home: string): string {
  return join(home, 'credentials.json');
}

export function readCredentials(home: string): Credentials | undefined {
  try {
    return JSON.parse(readFileSync(credentialsFile(home), 'utf8')) as Credentials;
  } catch (error) {
    // Absent before the first `up`; unreadable for users other than its owner. Either way the
    // environment has to name the API.
    if (['ENOENT', 'EACCES', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

function oneOf<const T extends string>(name: string, value: string | undefined, allowed: readonly [T, ...T[]]): T {
  if (value === undefined) return allowed[0];
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new CliError(`${name}=${value}: it must be one of ${allowed.join(', ')}`, { exitCode: EXIT.usage });
  }
  return found;
}
