import type { EntityManager } from 'typeorm';
import type { Verdict } from '../../activities/host/contract.js';
import { ID_PATTERN } from '../../workflows/contract/ids.js';

/** Whose each of these ids is, as a host asks about what it holds. */
export async function verdictsFor(
  manager: EntityManager,
  hostId: string,
  ids: readonly string[],
): Promise<Map<string, Verdict>> {
  const [known, strange] = [new Set<string>(), new Set<string>()];
  for (const id of ids) (ID_PATTERN.test(id) ? known : strange).add(id);
  const rows = await manager.query<{ id: string; verdict: Verdict }[]>(
    `SELECT asked.id, CASE
       WHEN (s.host_id = $1 AND s.state <> 'stopped') OR (b.host_id = $1 AND b.state = 'running') THEN 'live'
       WHEN s.id IS NULL AND b.id IS NULL THEN 'unknown'
       ELSE 'ended' END AS verdict
     FROM unnest($2::text[]) AS asked (id)
     LEFT JOIN sandboxes s ON s.id = asked.id LEFT JOIN template_builds b ON b.id = asked.id`,
    [hostId, [...known]],
  );
  return new Map<string, Verdict>([
    ...rows.map(({ id, verdict }) => [id, verdict] as const),
    // Nothing of ours has such a name.
    ...[...strange].map((id) => [id, 'unknown'] as const),
  ]);
}
