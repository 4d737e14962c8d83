import { Injectable, Logger } from '@nestjs/common';
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
  type VerdictsDto,
} from './host.dto.js';
import { HostRepository, type HostInfo } from './host.repository.js';
import type { Verdict } from '../../activities/host/contract.js';
import { TemporalControl } from '../control/temporal-control.js';

/** Whom programs in a guest run as unless they ask for another. */
const GUEST_USER = 'user';

@Injectable()
export class HostService {
  private readonly log = new Logger(HostService.name);

  constructor(
    private readonly hosts: HostRepository,
    private readonly temporal: TemporalControl,
  ) {}

  async register(body: HostInfoDto): Promise<RegisteredHostDto> {
    const [id, token] = [randomId(), newHostToken()];
    await this.hosts.insert(id, hashToken(token), toInfo(body));
    this.watch(id);
    return { host_id: id, token };
  }

  /** Not waited for: without Temporal a host registers all the same, and a reconciliation finds that nobody watches it. */
  private watch(hostId: string): void {
    this.temporal.ensureWatch(hostId).catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error);
      this.log.warn(`the lease of host ${hostId} is not watched yet; the next reconciliation sees to it: ${why}`);
    });
  }

  async heartbeat(hostId: string, body: HostInfoDto): Promise<HeartbeatDto> {
    await this.hosts.heartbeat(hostId, toInfo(body));
    return { host_id: hostId };
  }

  async hosted(hostId: string): Promise<HostSandboxesDto> {
    const rows = await this.hosts.hosted(hostId);
    return { items: rows.map(({ id, state, epoch, open }) => ({ id, state, epoch, open_operation: open })) };
  }

  async verdicts(hostId: string, ids: readonly string[]): Promise<VerdictsDto> {
    const verdicts = [...(await this.hosts.verdicts(hostId, ids))];
    const of = (wanted: Verdict): string[] => verdicts.filter(([, verdict]) => verdict === wanted).map(([id]) => id);
    return { live: of('live'), ended: of('ended'), unknown: of('unknown') };
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
    const online = await this.hosts.onlineOf(hosts.map(({ id }) => id));
    return toPage(
      hosts,
      query.limit,
      (host) => toHostDto(host, reservations.get(host.id), online.has(host.id)),
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
