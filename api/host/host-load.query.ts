import type { EntityManager } from 'typeorm';
import type { HostLoad } from '../../activities/control/ports.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import { LEASE_HELD } from './host-lease.query.js';

/** States in which a sandbox has a VM, or may have one. Paused ones hold no memory; failed ones were taken down. */
const RESERVING_STATES = [
  'starting',
  'running',
  'pausing',
  'resuming',
  'missing',
  'stopping',
] as const satisfies readonly SandboxState[];

export interface HostReservation {
  hostId: string;
  vcpus: number;
  memoryMb: number;
  sandboxes: number;
}

/** What is promised of each host: its sandboxes and the builds that it makes. */
export async function hostReservations(manager: EntityManager): Promise<Map<string, HostReservation>> {
  const rows = await manager.query<{ host_id: string; vcpus: number; memory_mb: number; sandboxes: number }[]>(
    `SELECT host_id, sum(vcpus)::int AS vcpus, sum(memory_mb)::int AS memory_mb, sum(is_sandbox)::int AS sandboxes
     FROM (
       SELECT host_id, vcpus, memory_mb, 1 AS is_sandbox FROM sandboxes WHERE host_id IS NOT NULL AND state = ANY($1)
       UNION ALL
       SELECT host_id, vcpus, memory_mb, 0 FROM template_builds WHERE state = 'running'
     ) AS promised
     GROUP BY host_id`,
    [RESERVING_STATES],
  );
  return new Map(
    rows.map((row) => [
      row.host_id,
      { hostId: row.host_id, vcpus: row.vcpus, memoryMb: row.memory_mb, sandboxes: row.sandboxes },
    ]),
  );
}

interface OnlineHost {
  id: string;
  name: string;
  vcpus: number;
  memory_mb: number;
  hypervisor: string;
  hypervisor_version: string;
  cpu: string;
  disk: string | null;
  images: string[];
}

export async function onlineHostLoads(manager: EntityManager): Promise<HostLoad[]> {
  const hosts = await manager.query<OnlineHost[]>(
    `SELECT id, name, vcpus, memory_mb, hypervisor, hypervisor_version, cpu, drivers->>'disk' AS disk, images FROM hosts WHERE ${LEASE_HELD}`,
  );
  const reservations = await hostReservations(manager);
  return hosts.map((host) => ({
    id: host.id,
    name: host.name,
    vcpus: host.vcpus,
    memoryMb: host.memory_mb,
    hypervisor: host.hypervisor,
    hypervisorVersion: host.hypervisor_version,
    cpu: host.cpu,
    disk: host.disk ?? '',
    images: host.images,
    reservedVcpus: reservations.get(host.id)?.vcpus ?? 0,
    reservedMemoryMb: reservations.get(host.id)?.memoryMb ?? 0,
  }));
}
