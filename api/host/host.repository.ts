import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { Verdict } from '../../activities/host/contract.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import { hashToken } from '../auth/tokens.js';
import type { Position } from '../http/paging.js';
import { LEASE_HELD } from './host-lease.query.js';
import { verdictsFor } from './verdict.query.js';
import { hostReservations, type HostReservation } from './host-load.query.js';
import { HostEntity } from './host.entity.js';

export type HostInfo = Omit<HostEntity, 'id' | 'tokenHash' | 'registeredAt' | 'heartbeatAt' | 'lostAt'>;

export interface HostedSandbox {
  id: string;
  state: SandboxState | 'build';
  epoch: number;
  open: boolean;
}

@Injectable()
export class HostRepository {
  constructor(private readonly dataSource: DataSource) {}

  async insert(id: string, tokenHash: string, info: HostInfo): Promise<void> {
    await this.dataSource.manager.insert(HostEntity, { ...info, id, tokenHash });
  }

  async heartbeat(id: string, info: HostInfo): Promise<void> {
    const update = this.dataSource.createQueryBuilder().update(HostEntity);
    await update
      .set({ ...info, heartbeatAt: () => 'now()' })
      .where({ id })
      .execute();
  }

  async idOfToken(token: string): Promise<string | null> {
    const host = await this.dataSource.manager.findOne(HostEntity, {
      where: { tokenHash: hashToken(token) },
      select: { id: true },
    });
    return host?.id ?? null;
  }

  find(id: string): Promise<HostEntity | null> {
    return this.dataSource.manager.findOneBy(HostEntity, { id });
  }

  list(limit: number, after: Position | null): Promise<HostEntity[]> {
    const query = this.dataSource.createQueryBuilder(HostEntity, 'host');
    if (after) query.where('(host.registered_at, host.id) < (:at, :id)', after);
    return query.orderBy('host.registered_at', 'DESC').addOrderBy('host.id', 'DESC').take(limit).getMany();
  }

  reservations(): Promise<Map<string, HostReservation>> {
    return hostReservations(this.dataSource.manager);
  }

  async countOnline(): Promise<{ online: number; known: number }> {
    const [row] = await this.dataSource.query<{ online: number; known: number }[]>(
      `SELECT count(*)::int AS known,
         (count(*) FILTER (WHERE ${LEASE_HELD}))::int AS online FROM hosts`,
    );
    return row ?? { online: 0, known: 0 };
  }

  /** Those of these hosts whose lease is held. */
  async onlineOf(ids: readonly string[]): Promise<Set<string>> {
    const rows = await this.dataSource.query<{ id: string }[]>(
      `SELECT id FROM hosts WHERE id = ANY($1) AND ${LEASE_HELD}`,
      [ids],
    );
    return new Set(rows.map(({ id }) => id));
  }

  verdicts(hostId: string, ids: readonly string[]): Promise<Map<string, Verdict>> {
    return verdictsFor(this.dataSource.manager, hostId, ids);
  }

  /** Everything that the host may have something of: sandboxes that are not stopped, builds that run. */
  hosted(hostId: string): Promise<HostedSandbox[]> {
    return this.dataSource.query<HostedSandbox[]>(
      `SELECT s.id, s.state, s.epoch,
         EXISTS (SELECT FROM operations o WHERE o.sandbox_id = s.id AND o.state = 'running') AS open
       FROM sandboxes s WHERE s.host_id = $1 AND s.state <> 'stopped'
       UNION ALL
       SELECT id, 'build', epoch, true FROM template_builds WHERE host_id = $1 AND state = 'running'
       ORDER BY 1`,
      [hostId],
    );
  }

  /** Secrets of a sandbox or running build of this host; null when it has no such. */
  async guestSecrets(
    hostId: string,
    id: string,
  ): Promise<{ accessToken: string; env: Record<string, string>; templateId: string } | null> {
    const [row] = await this.dataSource.query<
      { access_token: string; env: Record<string, string>; template_id: string }[]
    >(
      `SELECT secret.access_token, secret.env, owner.template_id
       FROM sandbox_secrets secret JOIN (
         SELECT id, template_id FROM sandboxes WHERE host_id = $1 AND id = $2 AND state <> 'stopped'
         UNION ALL
         SELECT id, template_id FROM template_builds WHERE host_id = $1 AND id = $2 AND state = 'running'
       ) AS owner USING (id)`,
      [hostId, id],
    );
    return row ? { accessToken: row.access_token, env: row.env, templateId: row.template_id } : null;
  }
}
