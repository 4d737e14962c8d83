import { heldIds, removeOrphan } from '../activities/host/host-care.js';
import type { GuestConnections } from '../activities/host/guest-connections.js';
import type { Caretaker } from './adopt.js';

/** How long a sandbox's journal outlives it, so that steps that come late are still refused. */
const TOMBSTONE_MS = 24 * 60 * 60 * 1_000;

export interface Reclaimed {
  removed: string[];
  /** Kept: the control plane never knew them. Its database may be older than this host. */
  unknown: string[];
  /** Kept: they have ended for this host, but it did not make them under its present id. */
  foreign: string[];
  failed: string[];
  /** Journals of sandboxes that are long gone. */
  forgotten: string[];
}

/**
 * Removes what is left here of what has ended: a destroyed sandbox, one that went to another
 * host, or a build whose clean-up could not run. Nothing is removed without the control plane's
 * word that it has ended: what it does not know is kept, and so is everything while it cannot
 * be asked, and what is not known to have been made by this host under its present id.
 */
export async function reclaim(
  { ports, journal, gate, log }: Caretaker,
  connections: GuestConnections,
  options: { now?: number } = {},
): Promise<Reclaimed> {
  const result: Reclaimed = { removed: [], unknown: [], foreign: [], failed: [], forgotten: [] };
  // Nothing of a sandbox is made before its row is, so whatever is found is known by the time of the question.
  const found = await heldIds(ports);
  const entries = journal.entries();
  const ids = new Set([...found, ...entries.map(({ sandboxId }) => sandboxId)]);
  if (ids.size === 0) return result;
  const verdicts = await ports.controlPlane.verdicts([...ids]);

  for (const id of found) {
    const verdict = verdicts.get(id) ?? 'unknown';
    // No step of it runs meanwhile, and one that is repeated saves anew.
    if (verdict === 'live') await gate.exclusive(id, () => ports.snapshots.deleteUnfinished(id));
    else if (verdict === 'unknown') result.unknown.push(id);
    else if (!journal.isOwn(id)) result.foreign.push(id);
    else {
      try {
        if (await removeOrphan({ ports, gate, connections }, id, { unknown: false })) result.removed.push(id);
      } catch (err) {
        log.warn({ err, sandboxId: id }, 'leftovers could not be removed; tried again later');
        result.failed.push(id);
      }
    }
  }

  const before = (options.now ?? Date.now()) - TOMBSTONE_MS;
  const left = new Set([...result.unknown, ...result.foreign, ...result.failed]);
  for (const { sandboxId, touchedAt } of entries) {
    // What is still here stays fenced, and known as this host's own.
    if (verdicts.get(sandboxId) === 'live' || left.has(sandboxId) || touchedAt > before) continue;
    await journal.forget(sandboxId);
    result.forgotten.push(sandboxId);
  }
  if (Object.values(result).some((ids) => ids.length > 0)) log.info({ ...result }, 'leftovers reclaimed');
  if (result.unknown.length + result.foreign.length > 0) {
    const { unknown, foreign } = result;
    log.warn(
      { unknown, foreign },
      'kept, as nobody can say that they have ended; see `torpor ops reconcile --dry-run`',
    );
  }
  return result;
}
