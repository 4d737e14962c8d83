import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { hashToken, newHostToken } from '../auth/tokens.js';
import type { PageQuery } from '../http/page.dto.js';
import { decodePosition, encodePosition, toPage, type Page } from '../http/paging.js';
import { randomId } from '../operation/operation-id.js';
import {
  toHostDto,
  type GuestConfigDto,
  type HeartbeatDto,
  type HostDto,
  type HostInfoDto,
  type HostSandboxesDto,
  type RegisteredHostDto,
} from './host.dto.js';
import { HostRepository, type HostInfo } from './host.repository.js';

/** Whom programs in a guest run as unless they ask for another. */
const GUEST_USER = 'user';

@Injectable()
export class HostService {
  constructor(private readonly hosts: HostRepository) {}

  async register(body: HostInfoDto): Promise<RegisteredHostDto> {
    const [id, token] = [randomId(), newHostToken()];
    await this.hosts.insert(id, hashToken(token), toInfo(body));
    return { host_id: id, token };
  }

  async heartbeat(hostId: string, body: HostInfoDto): Promise<HeartbeatDto> {
    await this.hosts.heartbeat(hostId, toInfo(body));
    return { host_id: hostId };
  }

  async hosted(hostId: string): Promise<HostSandboxesDto> {
    const rows = await this.hosts.hosted(hostId);
    return { items: rows.map(({ id, state, epoch, open }) => ({ id, state, epoch, open_operation: open })) };
  }

  async guestConfig(hostId: string, id: string): Promise<GuestConfigDto> {
    const secrets = await this.hosts.guestSecrets(hostId, id);
    if (!secrets) throw new DomainError('not_found', `this host has no sandbox or build ${id}`);
    return {
      access_token: secrets.accessToken,
      env: secrets.env,
      template_id: secrets.templateId,
      user: GUEST_USER,
    };
  }

  async list(query: PageQuery): Promise<Page<HostDto>> {
    const [hosts, reservations] = await Promise.all([
      this.hosts.list(query.limit + 1, query.cursor === undefined ? null : decodePosition(query.cursor)),
      this.hosts.reservations(),
    ]);
    const now = new Date();
    return toPage(
      hosts,
      query.limit,
      (host) => toHostDto(host, reservations.get(host.id), now),
      ({ registeredAt, id }) => encodePosition({ at: registeredAt, id }),
    );
  }
}

function toInfo(body: HostInfoDto): HostInfo {
  return {
    name: body.name,
    arch: body.arch,
    version: body.version,
    vcpus: body.vcpus,
    memoryMb: body.memory_mb,
    diskMb: body.disk_mb,
    dataPlaneUrl: body.data_plane_url.replace(/\/+$/, ''),
    dataPlaneToken: body.data_plane_token,
    hypervisor: body.hypervisor,
    hypervisorVersion: body.hypervisor_version,
    cpu: body.cpu,
    drivers: { ...body.drivers },
    images: body.images,
  };
}
