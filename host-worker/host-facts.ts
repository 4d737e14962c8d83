import { existsSync, readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { arch, cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import type { HostConfig } from './config.js';
import type { HostInfo } from './control-plane.client.js';
import type { MachineDrivers } from './machine-drivers.js';

const MIB = 1024 * 1024;
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' };

/** What the control plane is told about this machine. */
export async function hostFacts(
  config: HostConfig,
  drivers: MachineDrivers,
  dataPlane: { url: string; token: string },
): Promise<HostInfo> {
  const { identity } = drivers.ports.hypervisor;
  const disk = await statfs(config.dataDir);
  return {
    name: config.hostName,
    arch: ARCHITECTURES[arch()] ?? arch(),
    version: VERSION,
    vcpus: config.capacity.vcpus ?? cpus().length,
    memory_mb: config.capacity.memoryMb ?? Math.floor(totalmem() / MIB),
    disk_mb: Math.floor((disk.bavail * disk.bsize) / MIB),
    data_plane_url: dataPlane.url,
    data_plane_token: dataPlane.token,
    hypervisor: identity.name,
    hypervisor_version: identity.version,
    cpu: identity.cpu,
    drivers: drivers.names,
    images: drivers.images.names,
  };
}

/** Of the package, wherever below it the compiled file lies. */
const VERSION = versionAbove(import.meta.dirname);

function versionAbove(directory: string): string {
  const file = join(directory, 'package.json');
  if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  const parent = dirname(directory);
  return parent === directory ? 'unknown' : versionAbove(parent);
}
