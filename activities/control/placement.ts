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
  /** Why it boots although there is saved memory of the template; absent when it restores, or when there is none. */
  coldBecause?: string;
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

/** Formats that a driver lays disks over. Every driver reads raw. */
const ALSO_READS: Readonly<Record<string, readonly string[]>> = { qcow2: ['qcow2'] };

/** Another disk driver than the one that made it may not read it: the host may have changed since. */
function canOpen({ disk }: HostLoad, build: BuildRecord): boolean {
  const format = formatOf(build);
  return format === 'raw' || (ALSO_READS[disk] ?? []).includes(format);
}

function formatOf({ artefact }: BuildRecord): 'qcow2' | 'raw' {
  return artefact?.diskFormat ?? 'qcow2';
}

/** What a host has to give; where it has nothing, why. */
function offerOf(host: HostLoad, request: PlacementRequest, builds: readonly BuildRecord[]): Offer | string {
  const load = host.reservedMemoryMb / host.memoryMb;
  const { ready, bareImage } = currentBuilds(builds);
  const made = ready.filter((build) => build.hostId === host.id);
  const here = made.filter((build) => canOpen(host, build));
  const ofSize = here.filter((build) => build.vcpus === request.vcpus && build.memoryMb === request.memoryMb);
  const warm = ofSize.find((build) => canRestore(host, build));
  if (warm && !request.cold) {
    const source = { kind: 'build', buildId: warm.id } as const;
    return { hostId: host.id, disk: source, boot: source, rank: 2, load };
  }
  const why = request.cold ? undefined : whyCold(host, made, ofSize);
  const cold = { hostId: host.id, boot: { kind: 'cold' }, load, ...(why ? { coldBecause: why } : {}) } as const;
  const base = warm ?? ofSize[0] ?? here[0];
  if (base) return { ...cold, disk: { kind: 'build', buildId: base.id }, rank: 1 };
  if (bareImage && host.images.includes(request.image)) {
    return { ...cold, disk: { kind: 'image', image: request.image }, rank: 0 };
  }
  const [unreadable] = made;
  if (unreadable) return unreadableOn(host, unreadable);
  return `has no ready build of the template${bareImage ? `, nor its image "${request.image}"` : ''}`;
}

function whyCold(host: HostLoad, made: readonly BuildRecord[], ofSize: readonly BuildRecord[]): string | undefined {
  const [saved] = ofSize;
  if (saved) {
    const { hypervisor, cpu } = saved.artefact ?? {};
    return `build ${saved.id} was saved by ${hypervisor} on ${cpu}, and ${host.name} runs ${host.hypervisor} ${host.hypervisorVersion} on ${host.cpu}`;
  }
  const unreadable = made.find((build) => !canOpen(host, build));
  if (unreadable) return `${host.name} ${unreadableOn(host, unreadable)}`;
  return made.length > 0 ? `no build on ${host.name} has this size` : undefined;
}

function unreadableOn({ disk }: HostLoad, build: BuildRecord): string {
  return `has build ${build.id} with a ${formatOf(build)} disk, which its disk driver ${disk} cannot open: build the template there again`;
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
  const answers = roomy.map((host) => ({ host, offer: offerOf(host, request, builds) }));
  const offers = answers.map(({ offer }) => offer).filter((offer) => typeof offer !== 'string');
  offers.sort((a, b) => b.rank - a.rank || a.load - b.load || a.hostId.localeCompare(b.hostId));
  if (offers[0]) {
    const { rank: _rank, load: _load, ...chosen } = offers[0];
    return chosen;
  }
  const refusals = answers.map(({ host, offer }) => `${host.name} ${typeof offer === 'string' ? offer : ''}`);
  throw noHost(request, hosts, candidates, refusals);
}

function noHost(
  request: PlacementRequest,
  hosts: readonly HostLoad[],
  candidates: readonly HostLoad[],
  /** Of those that have room: why they were not chosen. */
  refusals: readonly string[],
): DomainError {
  const freeMb = Math.max(0, ...candidates.map((host) => host.memoryMb - host.reservedMemoryMb));
  const details = { online: hosts.length, excluded: request.notHosts, largest_free_memory_mb: freeMb };
  const why = (): string => {
    if (hosts.length === 0) return 'no host is online';
    if (candidates.length === 0) return 'no other host is online';
    if (refusals.length > 0) return `no online host with room can start the template: ${refusals.join('; ')}`;
    return `no online host has ${request.memoryMb} MiB of memory and ${request.vcpus} vCPUs left; most memory left on one: ${freeMb} MiB`;
  };
  return new DomainError('no_hosts_available', why(), details);
}
