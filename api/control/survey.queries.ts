import type { DataSource, EntityManager } from 'typeorm';
import type { Verdict } from '../../activities/host/contract.js';
import type { HostLease, SurveyRow, SurveyStore } from '../../activities/control/survey-ports.js';
import type { Reconciled } from '../../workflows/contract/findings.js';
import { API_LISTENS, LEASE_HELD, LEASE_LEFT_MS } from '../host/host-lease.query.js';
import { verdictsFor } from '../host/verdict.query.js';
import { recordFindings } from '../ops/reconcile-log.query.js';

export async function hostLease(manager: EntityManager, id: string): Promise<HostLease | null> {
  const [row] = await manager.query<
    { left_ms: number; listening: boolean; heartbeat_at: Date; lost_at: Date | null }[]
  >(`SELECT ${LEASE_LEFT_MS} AS left_ms, ${API_LISTENS} AS listening, heartbeat_at, lost_at FROM hosts WHERE id = $1`, [
    id,
  ]);
  if (!row) return null;
  return {
    id,
    leftMs: row.left_ms,
    listening: row.listening,
    heartbeatAt: row.heartbeat_at,
    lostAt: row.lost_at,
  };
}

/** An operation that did not succeed leaves what nobody knows, unless the sandbox was lost from a state known after it. */
const ROWS = `SELECT s.id, s.epoch, s.state, s.team_id AS "teamId", s.template_id AS "templateId", s.host_id AS "hostId",
    s.generation, s.timeout_seconds AS "timeoutSeconds", s.expires_at AS "expiresAt",
    coalesce(last.state = 'running', false) AS open,
    coalesce(last.state <> 'succeeded' AND NOT EXISTS (
      SELECT FROM sandbox_events e
      WHERE e.sandbox_id = s.id AND e.type = 'host.lost' AND e.at > last.finished_at
    ), false) AS unfinished
  FROM sandboxes s LEFT JOIN LATERAL (
    SELECT o.state, o.finished_at FROM operations o WHERE o.sandbox_id = s.id ORDER BY o.epoch DESC LIMIT 1
  ) AS last ON true`;

/** A reconciliation's view of the database. */
export class SurveyQueries implements SurveyStore {
  constructor(private readonly dataSource: DataSource) {}

  /** Those that can be asked, and those that are silent and have something that rows speak of. */
  hosts(): Promise<{ id: string; online: boolean }[]> {
    return this.dataSource.query<{ id: string; online: boolean }[]>(
      `SELECT id, ${LEASE_HELD} AS online FROM hosts
       WHERE ${LEASE_HELD} OR EXISTS (SELECT FROM sandboxes WHERE host_id = hosts.id AND state <> 'stopped')
         OR EXISTS (SELECT FROM template_builds WHERE host_id = hosts.id AND state = 'running')
       ORDER BY id`,
    );
  }

  hostLease(id: string): Promise<HostLease | null> {
    return hostLease(this.dataSource.manager, id);
  }

  rowsOf(hostId: string | null): Promise<SurveyRow[]> {
    return this.dataSource.query<SurveyRow[]>(
      `${ROWS} WHERE s.host_id IS NOT DISTINCT FROM $1 AND s.state <> 'stopped' ORDER BY s.id`,
      [hostId],
    );
  }

  async runningBuilds(hostId: string): Promise<string[]> {
    const rows = await this.dataSource.query<{ id: string }[]>(
      `SELECT id FROM template_builds WHERE host_id = $1 AND state = 'running' ORDER BY id`,
      [hostId],
    );
    return rows.map(({ id }) => id);
  }

  rows(ids: readonly string[]): Promise<SurveyRow[]> {
    return this.dataSource.query<SurveyRow[]>(`${ROWS} WHERE s.id = ANY($1)`, [ids]);
  }

  verdicts(hostId: string, ids: readonly string[]): Promise<Map<string, Verdict>> {
    return verdictsFor(this.dataSource.manager, hostId, ids);
  }

  async rememberOrphans(hostId: string, ids: readonly string[]): Promise<Map<string, { ageMs: number }>> {
    await this.dataSource.query(
      `INSERT INTO host_orphans (host_id, id) SELECT $1, id FROM unnest($2::text[]) AS seen (id) ON CONFLICT DO NOTHING`,
      [hostId, ids],
    );
    const rows = await this.dataSource.query<{ id: string; age_ms: number }[]>(
      `SELECT id, (extract(epoch FROM now() - first_seen_at) * 1000)::float8 AS age_ms FROM host_orphans
       WHERE host_id = $1 AND id = ANY($2)`,
      [hostId, ids],
    );
    return new Map(rows.map(({ id, age_ms: ageMs }) => [id, { ageMs }]));
  }

  async forgetOrphansBut(hostId: string, ids: readonly string[]): Promise<void> {
    await this.dataSource.query('DELETE FROM host_orphans WHERE host_id = $1 AND id <> ALL($2)', [hostId, ids]);
  }

  record(runId: string, findings: readonly Reconciled[]): Promise<void> {
    return this.dataSource.transaction((manager) => recordFindings(manager, runId, findings));
  }
}
