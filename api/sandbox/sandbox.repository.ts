import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { SandboxState } from '../../workflows/contract/states.js';
import type { Position } from '../http/paging.js';
import { SandboxEventEntity } from './sandbox-event.entity.js';
import { SandboxSecretEntity } from './sandbox-secret.entity.js';
import { SandboxEntity } from './sandbox.entity.js';

export interface SandboxFilter {
  /** Undefined: all but stopped. */
  states?: readonly SandboxState[] | undefined;
  templateIds?: readonly string[] | undefined;
  metadata?: Record<string, string> | undefined;
}

/** Of a secret: neither a sandbox nor a build has come of its request. */
const UNTAKEN = `NOT EXISTS (SELECT FROM sandboxes WHERE id = secret.id)
  AND NOT EXISTS (SELECT FROM template_builds WHERE id = secret.id)`;

/** Reads sandboxes, and writes what is not their lifecycle: that belongs to the control activities. */
@Injectable()
export class SandboxRepository {
  constructor(private readonly dataSource: DataSource) {}

  find(teamId: string, id: string): Promise<SandboxEntity | null> {
    return this.dataSource.manager.findOneBy(SandboxEntity, { teamId, id });
  }

  list(teamId: string, filter: SandboxFilter, limit: number, after: Position | null): Promise<SandboxEntity[]> {
    const query = this.dataSource.createQueryBuilder(SandboxEntity, 's').where('s.team_id = :teamId', { teamId });
    if (filter.states) query.andWhere('s.state = ANY(:states)', { states: filter.states });
    else query.andWhere(`s.state <> 'stopped'`);
    if (filter.templateIds) query.andWhere('s.template_id = ANY(:templateIds)', { templateIds: filter.templateIds });
    if (filter.metadata)
      query.andWhere('s.metadata @> :metadata::jsonb', { metadata: JSON.stringify(filter.metadata) });
    if (after) query.andWhere('(s.created_at, s.id) < (:at, :id)', after);
    return query.orderBy('s.created_at', 'DESC').addOrderBy('s.id', 'DESC').take(limit).getMany();
  }

  /** Where the host's edge looks: no team, because the guest's own token decides there. */
  async hostOfRunning(id: string): Promise<string | null> {
    const sandbox = await this.dataSource.manager.findOne(SandboxEntity, {
      where: { id, state: 'running' },
      select: { hostId: true },
    });
    return sandbox?.hostId ?? null;
  }

  events(teamId: string, sandboxId: string, limit: number, afterId: string): Promise<SandboxEventEntity[]> {
    return this.dataSource
      .createQueryBuilder(SandboxEventEntity, 'e')
      .where('e.team_id = :teamId AND e.sandbox_id = :sandboxId AND e.id > :afterId', { teamId, sandboxId, afterId })
      .orderBy('e.id', 'ASC')
      .take(limit)
      .getMany();
  }

  /** The sandbox was used: it lives on for its whole timeout from now. False when it does not run. */
  async touch(id: string): Promise<{ expiresAt: Date | null } | null> {
    const [rows] = await this.dataSource.query<[{ expires_at: Date | null }[], number]>(
      `UPDATE sandboxes SET expires_at = CASE WHEN timeout_seconds = 0 THEN expires_at
         ELSE greatest(expires_at, now() + make_interval(secs => timeout_seconds)) END
       WHERE id = $1 AND state = 'running' RETURNING expires_at`,
      [id],
    );
    return rows[0] ? { expiresAt: rows[0].expires_at } : null;
  }

  /** The deadline changes with it only while the sandbox runs. Answers with the row as it is now. */
  async setTimeout(
    sandbox: SandboxEntity,
    change: { timeoutSeconds: number; onTimeout: 'pause' | 'destroy' },
  ): Promise<SandboxEntity> {
    const { timeoutSeconds, onTimeout } = change;
    await this.dataSource.transaction(async (manager) => {
      await manager.query(
        `UPDATE sandboxes SET timeout_seconds = $2, on_timeout = $3, version = version + 1, updated_at = now(),
           expires_at = CASE
             WHEN $2 = 0 THEN NULL
             WHEN state = 'running' THEN now() + make_interval(secs => $2)
             -- One that is being paused may come back, and its keeper with it.
             ELSE expires_at END
         WHERE id = $1`,
        [sandbox.id, timeoutSeconds, onTimeout],
      );
      await manager.query(
        `INSERT INTO sandbox_events (sandbox_id, team_id, type, data) VALUES ($1, $2, 'timeout.changed', $3)`,
        [sandbox.id, sandbox.teamId, { timeout_seconds: timeoutSeconds, on_timeout: onTimeout }],
      );
    });
    return this.dataSource.manager.findOneByOrFail(SandboxEntity, { id: sandbox.id });
  }

  /** Before the workflow starts. What is there already stays: the request came a second time. */
  async ensureSecret(secret: Omit<SandboxSecretEntity, 'createdAt'>): Promise<void> {
    await this.dataSource.query(
      'INSERT INTO sandbox_secrets (id, team_id, access_token, env) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING',
      [secret.id, secret.teamId, secret.accessToken, secret.env],
    );
  }

  /** Of a request that was refused. One that came a second time may be refused because of what the first has made. */
  async removeUntakenSecret(id: string): Promise<void> {
    await this.dataSource.query(`DELETE FROM sandbox_secrets secret WHERE id = $1 AND ${UNTAKEN}`, [id]);
  }

  async accessToken(id: string): Promise<string | null> {
    const secret = await this.dataSource.manager.findOne(SandboxSecretEntity, {
      where: { id },
      select: { accessToken: true },
    });
    return secret?.accessToken ?? null;
  }

  /** Of requests whose workflow never took them; it would have by now. */
  async removeAbandonedSecrets(): Promise<void> {
    await this.dataSource.query(
      `DELETE FROM sandbox_secrets secret WHERE created_at < now() - interval '1 day'
         AND ${UNTAKEN}`,
    );
  }
}
