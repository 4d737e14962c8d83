import { readFileSync } from 'node:fs';
import { checkPorts } from '../../cli/platform/ports.js';

/** Where a server of all roles listens; the names are those of the environment that its image reads. */
const NAMES = [
  'FRONTEND_GRPC_PORT',
  'FRONTEND_HTTP_PORT',
  'FRONTEND_MEMBERSHIP_PORT',
  'HISTORY_GRPC_PORT',
  'HISTORY_MEMBERSHIP_PORT',
  'MATCHING_GRPC_PORT',
  'MATCHING_MEMBERSHIP_PORT',
  'WORKER_GRPC_PORT',
  'WORKER_MEMBERSHIP_PORT',
] as const;

export type ClusterPorts = Record<(typeof NAMES)[number], number>;

const TRIES = 50;
const LOWEST = 10_000;

/**
 * Free ports that a server can leave and come back to: below those that the kernel gives to
 * outgoing connections, one of which would otherwise sit on them when it starts again. Worse,
 * a client that dials a dead server's port from that very port connects to itself.
 */
export async function clusterPorts(): Promise<ClusterPorts> {
  const [outgoing = '32768'] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/);
  const span = Number(outgoing) - NAMES.length - LOWEST;
  for (let attempt = 1; ; attempt++) {
    const first = LOWEST + Math.floor(Math.random() * span);
    const ports = Object.fromEntries(NAMES.map((name, index) => [name, first + index])) as ClusterPorts;
    try {
      await checkPorts(Object.entries(ports).map(([what, port]) => ({ what, flag: 'ports', port })));
      return ports;
    } catch (error) {
      if (attempt === TRIES) throw error;
    }
  }
}
