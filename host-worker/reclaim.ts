import { removeEverything } from '../activities/host/closing-steps.js';
import type { GuestConnections } from '../activities/host/guest-connections.js';
import type { HostPorts } from '../activities/host/ports.js';
import type { Caretaker } from './adopt.js';

/** How long a sandbox's journal outlives it, so that steps that come late are still refused. */
const TOMBSTONE_MS = 24 * 60 * 60 * 1_000;

export interface Reclaimed {
  removed: string[];
  /** Left alone: found here, unknown to the control plane and to this host's journal. */
  foreign: string[];
  failed: string[];
  /** Journals of sandboxes that are long gone. */
  forgotten: string[];
}

/**
 * Removes what no live sandbox owns: what a destroyed one, one that went to another
 * host or an ended build left behind when its clean-up could not run. Nothing is
 * removed without an answer of the control plane, and nothing that is not known to
 * have been made by this host under its present id.
 */
export async function reclaim(
  { ports, journal, gate, assigned, log }: Caretaker,
  connections: GuestConnections,
  options: { hostId: string; now?: number },
): Promise<Reclaimed> {
  const result: Reclaimed = { removed: [], foreign: [], failed: [], forgotten: [] };
  // Looked at before the question: what is here by now was assigned before, so an answer without it is final.
  const found = await leftovers(ports);
  const entries = new Map(journal.entries().map((entry) => [entry.sandboxId, entry]));
  const live = new Set((await assigned()).map(({ id }) => id));

  for (const id of found) {
    if (live.has(id)) continue;
    if (entries.get(id)?.hostId !== options.hostId) {
      result.foreign.push(id);
      continue;
    }
    try {
      await gate.exclusive(id, () => removeEverything(ports, connections, id));
      result.removed.push(id);
    } catch (err) {
      log.warn({ err, sandboxId: id }, 'leftovers could not be removed; tried again later');
      result.failed.push(id);
    }
  }

  const before = (options.now ?? Date.now()) - TOMBSTONE_MS;
  for (const { sandboxId, touchedAt } of entries.values()) {
    if (live.has(sandboxId) || result.failed.includes(sandboxId) || touchedAt > before) continue;
    await journal.forget(sandboxId);
    result.forgotten.push(sandboxId);
  }
  if (Object.values(result).some((ids) => ids.length > 0)) log.info({ ...result }, 'leftovers reclaimed');
  return result;
}

async function leftovers(ports: HostPorts): Promise<Set<string>> {
  const { hypervisor, network, disk, snapshots } = ports;
  const lists = await Promise.all([hypervisor.list(), network.list(), disk.list(), snapshots.list()]);
  return new Set(lists.flat());
}
