import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { networkPolicyOf } from '../../workflows/contract/network-policy.js';
import { HostDataPlane } from '../host/host-data-plane.js';
import { toNetworkCountersDto, toNetworkPolicyDto, type SandboxNetworkDto } from './network.dto.js';
import type { SandboxEntity } from './sandbox.entity.js';
import { SandboxRepository } from './sandbox.repository.js';

type Counted = Pick<SandboxNetworkDto, 'counters' | 'counters_note'>;

/** What a sandbox may send, and what passed. */
@Injectable()
export class SandboxNetworkService {
  constructor(
    private readonly sandboxes: SandboxRepository,
    private readonly dataPlane: HostDataPlane,
  ) {}

  async get(teamId: string, id: string): Promise<SandboxNetworkDto> {
    const sandbox = await this.sandboxes.find(teamId, id);
    if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${id}`);
    return { policy: toNetworkPolicyDto(networkPolicyOf(sandbox)), ...(await this.count(sandbox)) };
  }

  /** The policy is known without the host, so a host that does not answer is no error. */
  private async count({ id, hostId, state }: SandboxEntity): Promise<Counted> {
    if (hostId === null || state === 'stopped' || state === 'paused') {
      return { counters: null, counters_note: `it is ${state} and has no network` };
    }
    try {
      const counters = await this.dataPlane.networkCounters(hostId, id);
      return counters
        ? { counters: toNetworkCountersDto(counters), counters_note: null }
        : { counters: null, counters_note: `it is ${state} and host ${hostId} has no network of it` };
    } catch (error) {
      if (!(error instanceof DomainError)) throw error;
      return { counters: null, counters_note: error.message };
    }
  }
}
