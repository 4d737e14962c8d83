import { hostname } from 'node:os';
import { join } from 'node:path';
import type { CloudHypervisorPlaces } from './drivers/cloud-hypervisor/cloud-hypervisor-probe.js';
import { DISKS, type DriverWishes, HYPERVISORS } from './driver-choice.js';
import { DEFAULT_VM_CGROUP } from './drivers/vmm/vm-cgroup.js';
import { StartError } from './start-error.js';

export interface HostConfig {
  apiUrl: string;
  registrationToken: string | undefined;
  temporalAddress: string;
  temporalNamespace: string;
  dataDir: string;
  runDir: string;
  /** File that names kernel, initramfs and root filesystems. */
  images: string;
  hostName: string;
  dataPlane: { host: string; port: number; advertisedUrl: string | undefined };
  networkCidr: string;
  /** How many networks are made ahead; 0 makes each when it is asked for. */
  networkPoolSize: number;
  /** Of what a guest sends, where its policy says nothing; no limit when absent. */
  txMegabitsPerSecond: number | undefined;
  wishes: DriverWishes;
  /** Of copy-on-write files of dm-snapshot; without a size, each may grow as large as its base. */
  cow: { bytes?: number; growBytes?: number };
  cloudHypervisor: CloudHypervisorPlaces;
  vmUser: string;
  /** Control group, below /sys/fs/cgroup, in which each VM gets one of its own. */
  vmCgroup: { path: string; required: boolean };
  /** What this host offers; what the machine has, when absent. */
  capacity: { vcpus: number | undefined; memoryMb: number | undefined };
  logLevel: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const MIB = 1024 * 1024;
const LEAST_COW_MB = 16;
const NETWORK_POOL = 4;
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** Reads the environment once. Throws one error that names every variable that is wrong, and how. */
export function readConfig(env: Environment = process.env): HostConfig {
  const problems: string[] = [];
  const bad = (name: string, what: string) => problems.push(`${name}: ${what}, not ${JSON.stringify(env[name] ?? '')}`);
  const text = (name: string, fallback: string) => env[name] || fallback;
  const oneOf = <T extends string>(name: string, allowed: readonly T[], fallback: T): T => {
    const given = text(name, fallback);
    const found = allowed.find((value) => value === given);
    if (found === undefined) bad(name, `must be one of ${allowed.join(', ')}`);
    return found ?? fallback;
  };
  const whole = (name: string, least = 1): number | undefined => {
    if (!env[name]) return undefined;
    const value = Number(env[name]);
    if (Number.isInteger(value) && value >= least) return value;
    bad(name, `must be a whole number, ${least} or above`);
    return undefined;
  };
  const url = (name: string, fallback: string): string => {
    const given = text(name, fallback);
    if (!/^https?:$/.test(URL.canParse(given) ? new URL(given).protocol : ''))
      bad(name, 'must be an http:// or https:// URL');
    return given.replace(/\/+$/, '');
  };
  const absolute = (name: string, fallback: string): string => {
    const given = text(name, fallback);
    // A daemonised VMM has another working directory.
    if (!given.startsWith('/')) bad(name, 'must be an absolute path');
    return given;
  };

  const dataDir = absolute('TORPOR_DATA_DIR', '/var/lib/torpor/host');
  const listen = parseAddress(text('TORPOR_DATA_PLANE_LISTEN', '127.0.0.1:0'));
  if (!listen) bad('TORPOR_DATA_PLANE_LISTEN', 'must be an address and a port, such as 127.0.0.1:0');
  const temporal = text('TEMPORAL_ADDRESS', '127.0.0.1:7233');
  if (!parseAddress(temporal)) bad('TEMPORAL_ADDRESS', 'must be a host and a port, such as 127.0.0.1:7233');
  const cidr = text('TORPOR_NETWORK_CIDR', '10.96.0.0/16');
  if (!/^(\d{1,3}\.){3}\d{1,3}\/\d{1,2}$/.test(cidr))
    bad('TORPOR_NETWORK_CIDR', 'must be an IPv4 network such as 10.96.0.0/16');
  const cgroup = text('TORPOR_VM_CGROUP', DEFAULT_VM_CGROUP);
  if (!/^[\w@:.-]+(\/[\w@:.-]+)*$/.test(cgroup) || cgroup.split('/').includes('..'))
    bad('TORPOR_VM_CGROUP', 'must be a path below /sys/fs/cgroup, such as torpor.slice/torpor-vms.slice');
  const [cowMb, cowGrowMb] = [whole('TORPOR_COW_MB', LEAST_COW_MB), whole('TORPOR_COW_GROW_MB', LEAST_COW_MB)];

  const config: HostConfig = {
    apiUrl: url('TORPOR_API_URL', 'http://127.0.0.1:8080'),
    registrationToken: env['TORPOR_REGISTRATION_TOKEN'] || undefined,
    temporalAddress: temporal,
    temporalNamespace: text('TEMPORAL_NAMESPACE', 'default'),
    dataDir,
    runDir: absolute('TORPOR_RUN_DIR', '/run/torpor'),
    images: absolute('TORPOR_IMAGES', join(dataDir, 'images.json')),
    hostName: text('TORPOR_HOST_NAME', hostname()),
    dataPlane: {
      host: listen?.host ?? '',
      port: listen?.port ?? 0,
      advertisedUrl: env['TORPOR_DATA_PLANE_URL'] ? url('TORPOR_DATA_PLANE_URL', '') : undefined,
    },
    networkCidr: cidr,
    networkPoolSize: whole('TORPOR_NETWORK_POOL', 0) ?? NETWORK_POOL,
    txMegabitsPerSecond: whole('TORPOR_TX_MBPS'),
    wishes: {
      hypervisor: oneOf('TORPOR_HYPERVISOR', ['auto', ...HYPERVISORS], 'auto'),
      disk: oneOf('TORPOR_DISK', ['auto', ...DISKS], 'auto'),
      accel: oneOf('TORPOR_QEMU_ACCEL', ['auto', 'kvm', 'tcg'], 'auto'),
    },
    cow: {
      ...(cowMb === undefined ? {} : { bytes: cowMb * MIB }),
      ...(cowGrowMb === undefined ? {} : { growBytes: cowGrowMb * MIB }),
    },
    cloudHypervisor: {
      bin: env['TORPOR_CLOUD_HYPERVISOR_BIN'] ? absolute('TORPOR_CLOUD_HYPERVISOR_BIN', '') : undefined,
      path: text('PATH', DEFAULT_PATH),
    },
    vmUser: text('TORPOR_VM_USER', 'torpor-vm'),
    vmCgroup: { path: cgroup, required: Boolean(env['TORPOR_VM_CGROUP']) },
    capacity: { vcpus: whole('TORPOR_CAPACITY_VCPUS'), memoryMb: whole('TORPOR_CAPACITY_MEMORY_MB') },
    logLevel: oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
  };
  if (problems.length > 0) throw new StartError(`the host worker's environment is wrong:\n  ${problems.join('\n  ')}`);
  return config;
}

/** `host:port`, `[v6]:port`. */
function parseAddress(given: string): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})$/.exec(given);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) return undefined;
  return { host: match[1] ?? match[2] ?? '', port };
}
