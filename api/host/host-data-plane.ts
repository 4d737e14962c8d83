import { Injectable } from '@nestjs/common';
import { request } from 'undici';
import { DomainError } from '../../workflows/contract/errors.js';
import type { NetworkCounters } from '../../workflows/contract/network-policy.js';
import { HostRepository } from './host.repository.js';

/** Where a guest's ports are reached, and what to authenticate with on the way. */
export interface GuestDoor {
  /** Of one port; a path is appended. */
  baseUrl: string;
  authorization: string;
}

/** The caller's own `Authorization` for the guest: the plain header carries the data plane's token. */
export const GUEST_AUTHORIZATION = 'x-torpor-guest-authorization';

const READ_DEADLINE_MS = 10_000;

@Injectable()
export class HostDataPlane {
  constructor(private readonly hosts: HostRepository) {}

  async door(hostId: string, sandboxId: string, port: number): Promise<GuestDoor> {
    const host = await this.hosts.find(hostId);
    if (!host) throw new DomainError('host_unavailable', `host ${hostId} is not known any more`, { host_id: hostId });
    return {
      baseUrl: `${host.dataPlaneUrl}/sandboxes/${sandboxId}/ports/${port}`,
      authorization: `Bearer ${host.dataPlaneToken}`,
    };
  }

  /** Null when the host has none of this sandbox. */
  console(hostId: string, sandboxId: string, maxBytes: number): Promise<string | null> {
    return this.read(hostId, `${sandboxId}/console?max_bytes=${maxBytes}`, 'the console');
  }

  /** Null when the host has no network of this sandbox. */
  async networkCounters(hostId: string, sandboxId: string): Promise<NetworkCounters | null> {
    const text = await this.read(hostId, `${sandboxId}/network`, 'the counters of the network');
    return text === null ? null : (JSON.parse(text) as NetworkCounters);
  }

  private async read(hostId: string, path: string, what: string): Promise<string | null> {
    const host = await this.hosts.find(hostId);
    if (!host) return null;
    try {
      const { statusCode, body } = await request(`${host.dataPlaneUrl}/sandboxes/${path}`, {
        headers: { authorization: `Bearer ${host.dataPlaneToken}` },
        signal: AbortSignal.timeout(READ_DEADLINE_MS),
      });
      const text = await body.text();
      if (statusCode === 200) return text;
      if (statusCode === 404 || statusCode === 409 || statusCode === 410) return null;
      throw new Error(`its data plane answered ${statusCode}`);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new DomainError(
        'host_unavailable',
        `host ${host.name} did not give ${what}: ${why}`,
        { host_id: hostId },
        {
          cause: error,
        },
      );
    }
  }
}
