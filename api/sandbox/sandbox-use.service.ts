import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { TemporalControl } from '../control/temporal-control.js';
import type { PageQuery } from '../http/page.dto.js';
import type { Page } from '../http/paging.js';
import { rowCursor, toPage } from '../http/paging.js';
import { HostDataPlane } from '../host/host-data-plane.js';
import { SandboxView, toEventDto } from './sandbox-view.js';
import type { PingDto, SandboxDto, SandboxEventDto, SetTimeoutDto } from './sandbox.dto.js';
import type { SandboxEntity } from './sandbox.entity.js';
import { SandboxRepository } from './sandbox.repository.js';

/** What is done with a sandbox that changes nothing of its lifecycle. */
@Injectable()
export class SandboxUseService {
  constructor(
    private readonly sandboxes: SandboxRepository,
    private readonly view: SandboxView,
    private readonly dataPlane: HostDataPlane,
    private readonly temporal: TemporalControl,
  ) {}

  async setTimeout(teamId: string, id: string, body: SetTimeoutDto): Promise<SandboxDto> {
    const before = await this.known(teamId, id);
    if (before.state === 'stopped') throw notIn(before, 'set the timeout of');
    const after = await this.sandboxes.setTimeout(before, {
      timeoutSeconds: body.timeout_seconds,
      onTimeout: body.on_timeout ?? before.onTimeout,
    });
    // A keeper that sleeps past the new deadline must be told; one that wakes earlier reads it then.
    if (after.expiresAt && (!before.expiresAt || after.expiresAt < before.expiresAt))
      await this.temporal.armKeeper(after);
    // Nothing is left to keep.
    if (after.timeoutSeconds === 0) await this.temporal.wakeKeeper(id);
    return this.view.one(teamId, id);
  }

  async ping(teamId: string, id: string): Promise<PingDto> {
    const sandbox = await this.known(teamId, id);
    const touched = await this.sandboxes.touch(id);
    if (!touched) throw notIn(sandbox, 'ping');
    return { expires_at: touched.expiresAt?.toISOString() ?? null };
  }

  async events(teamId: string, id: string, { limit, cursor }: PageQuery): Promise<Page<SandboxEventDto>> {
    await this.known(teamId, id);
    const rows = await this.sandboxes.events(teamId, id, limit + 1, cursor === undefined ? '0' : rowCursor(cursor));
    return toPage(rows, limit, toEventDto, (row) => row.id);
  }

  async console(teamId: string, id: string, maxBytes: number): Promise<string> {
    const { hostId, state } = await this.known(teamId, id);
    const text = hostId === null ? null : await this.dataPlane.console(hostId, id, maxBytes);
    if (text === null)
      throw new DomainError('not_found', `no console of sandbox ${id} is left: it is ${state}`, { state });
    return text;
  }

  private async known(teamId: string, id: string): Promise<SandboxEntity> {
    const sandbox = await this.sandboxes.find(teamId, id);
    if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${id}`);
    return sandbox;
  }
}

export function notIn({ id, state }: SandboxEntity, verb: string): DomainError {
  return new DomainError('state_conflict', `cannot ${verb} sandbox ${id}: it is ${state}`, { state });
}
