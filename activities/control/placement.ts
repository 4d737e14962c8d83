import { DomainError } from '../../workflows/contract/errors.js';
import type { BuildRecord, HostLoad, StoredPlacement } from './ports.js';

/**
 * Virtual CPUs are time-shared, so more may be promised than there are. Memory is not:
 * a guest that touches what it was promised must find it.
 */
const VCPU_OVERCOMMIT = 4;

export interface PlacementRequest {
  vcpus: number;
  memoryMb: number;
  image: string;
  /** Boot from the disk even where a warm snapshot exists. */
  cold: boolean;
  notHosts: readonly string[];
}

export interface ChosenPlacement extends StoredPlacement {
  hostId: string;
}

/** What a host can give to a sandbox of this template: the higher the rank, the sooner it runs. */
interface Offer extends ChosenPlacement {
  rank: number;
  load: number;
}

export function hasRoom(host: HostLoad, size: { vcpus: number; memoryMb: number }): boolean {
  return (
    host.reservedMemoryMb + size.memoryMb <= host.memoryMb &&
    host.reservedVcpus + size.vcpus <= host.vcpus * VCPU_OVERCOMMIT
  );
}

/**
 * A template is what its newest build made it. Builds of an older recipe are never used,
 * and its bare image only as long as no recipe adds anything to it.
 */
function currentBuilds(builds: readonly BuildRecord[]): { ready: BuildRecord[]; bareImage: boolean } {
  const newest = builds.find((build) => build.state === 'ready');
  const recipe = (build: BuildRecord): string => JSON.stringify([build.image, build.setup]);
  return {
    ready: newest ? builds.filter((build) => build.state === 'ready' && recipe(build) === recipe(newest)) : [],
    bareImage: builds.every((build) => build.setup.length === 0),
  };
}

/** Another hypervisor, or the same on another processor, cannot load this memory: the host may have changed since. */
function canRestore(host: HostLoad, { artefact }: BuildRecord): boolean {
  return artefact?.hypervisor === `${host.hypervisor} ${host.hypervisorVersion}` && artefact.cpu === host.cpu;
}

function offerOf(host: HostLoad, request: PlacementRequest, builds: readonly BuildRecord[]): Offer | null {
  const load = host.reservedMemoryMb / host.memoryMb;
  const { ready, bareImage } = currentBuilds(builds);
  const here = ready.filter((build) => build.hostId === host.id);
  const ofSize = here.filter((build) => build.vcpus === request.vcpus && build.memoryMb === request.memoryMb);
  const warm = ofSize.find((build) => canRestore(host, build));
  if (warm && !request.cold) {
    const source = { kind: 'build', buildId: warm.id } as const;
    return { hostId: host.id, disk: source, boot: source, rank: 2, load };
  }
  const base = warm ?? ofSize[0] ?? here[0];
  if (base) {
    return { hostId: host.id, disk: { kind: 'build', buildId: base.id }, boot: { kind: 'cold' }, rank: 1, load };
  }
  if (!bareImage || !host.images.includes(request.image)) return null;
  return { hostId: host.id, disk: { kind: 'image', image: request.image }, boot: { kind: 'cold' }, rank: 0, load };
}

/**
 * The host that takes a new sandbox: one that restores it from memory before one that
 * must boot it, the least loaded among equals. `builds` are those of the template,
 * newest first; `hosts` those that are online.
 */
export function choosePlacement(
  request: PlacementRequest,
  hosts: readonly HostLoad[],
  builds: readonly BuildRecord[],
): ChosenPlacement {
  const candidates = hosts.filter((host) => !request.notHosts.includes(host.id));
  const roomy = candidates.filter((host) => hasRoom(host, request));
  const offers = roomy.map((host) => offerOf(host, request, builds)).filter((offer) => offer !== null);
  offers.sort((a, b) => b.rank - a.rank || a.load - b.load || a.hostId.localeCompare(b.hostId));
  const best = offers[0];
  if (best) return { hostId: best.hostId, disk: best.disk, boot: best.boot };
  throw noHost(request, hosts, candidates, roomy);
}

function noHost(
  request: PlacementRequest,
  hosts: readonly HostLoad[],
  candidates: readonly HostLoad[],
  roomy: readonly HostLoad[],
): DomainError {
  const freeMb = Math.max(0, ...candidates.map((host) => host.memoryMb - host.reservedMemoryMb));
  const details = { online: hosts.length, excluded: request.notHosts, largest_free_memory_mb: freeMb };
  const why = (): string => {
    if (hosts.length === 0) return 'no host is online';
    if (candidates.length === 0) return 'no other host is online';
    if (roomy.length > 0) return `no online host has a ready build of the template or its image "${request.image}"`;
    return `no online host has ${request.memoryMb} MiB of memory and ${request.vcpus} vCPUs left; most memory left on one: ${freeMb} MiB`;
  };
  return new DomainError('no_hosts_available', why(), details);
}
