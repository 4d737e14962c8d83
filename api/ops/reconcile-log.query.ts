import type { EntityManager } from 'typeorm';
import type { Reconciled } from '../../workflows/contract/findings.js';

/** What waits or is kept is found again and again; so often it is told again. */
const TOLD_AGAIN_AFTER = '1 hour';

/**
 * Writes findings once. The same run may write them twice, because its answer was lost; and what nothing is done about is
 * found by every run.
 */
const NEW = `SELECT f.kind, f.host_id, f.sandbox_id, f.outcome, f.before, f.after
  FROM jsonb_to_recordset($2::jsonb) AS f
    (kind text, host_id text, sandbox_id text, outcome text, before jsonb, after jsonb)
  WHERE NOT EXISTS (
    SELECT FROM reconcile_log l
    WHERE l.kind = f.kind AND l.host_id IS NOT DISTINCT FROM f.host_id
      AND l.sandbox_id IS NOT DISTINCT FROM f.sandbox_id AND l.outcome = f.outcome AND l.before = f.before
      AND (l.run_id = $1 OR (f.outcome IN ('kept', 'waiting') AND l.at > now() - interval '${TOLD_AGAIN_AFTER}'))
  )`;

export async function recordFindings(
  manager: EntityManager,
  runId: string,
  findings: readonly Reconciled[],
): Promise<void> {
  if (findings.length === 0) return;
  const rows = findings.map(({ kind, hostId, sandboxId, outcome, before, after }) => ({
    ...{ kind, outcome, before, after },
    host_id: hostId,
    sandbox_id: sandboxId,
  }));
  await manager.query(
    `WITH new AS (${NEW}),
     logged AS (INSERT INTO reconcile_log (run_id, kind, host_id, sandbox_id, outcome, before, after)
       SELECT $1, kind, host_id, sandbox_id, outcome, before, after FROM new)
     INSERT INTO sandbox_events (sandbox_id, team_id, type, operation_id, data)
       SELECT s.id, s.team_id, 'reconciled', new.after ->> 'operation',
         jsonb_build_object('finding', kind, 'outcome', outcome, 'before', before, 'after', after)
       FROM new JOIN sandboxes s ON s.id = new.sandbox_id`,
    [runId, JSON.stringify(rows)],
  );
}
