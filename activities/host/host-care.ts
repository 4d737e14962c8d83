import { type StepLog, asActivity } from './as-activity.js';
import { removeEverything } from './closing-steps.js';
import type { Holding, HostCare, Verdict, VmStatus } from './contract.js';
import { type GuestConnections, noConnections } from './guest-connections.js';
import type { HostPorts } from './ports.js';
import type { StepGate } from './step-gate.js';

export interface HostCareOptions {
  /** The one the steps use: nothing is removed while a step works on it. */
  gate: StepGate;
  connections?: GuestConnections;
  log?: StepLog;
  heartbeatMs?: number;
}

/** What a host is asked beside the steps of operations, over the same ports. */
export function createHostCare(ports: HostPorts, options: HostCareOptions): HostCare {
  const { gate, connections = noConnections, heartbeatMs } = options;
  const log = options.log ?? { info: () => {}, warn: () => {} };
  return {
    takeInventory: () => asActivity({ log, heartbeatMs }, () => inventory(ports, log)),

    removeOrphans: ({ ids, unknown }) =>
      asActivity({ log, heartbeatMs }, async (signal) => {
        const outcome: { removed: string[]; kept: string[] } = { removed: [], kept: [] };
        for (const id of ids) {
          signal?.throwIfAborted();
          const removed = await removeOrphan({ ports, gate, connections }, id, { unknown });
          (removed ? outcome.removed : outcome.kept).push(id);
        }
        log.info({ ...outcome, unknown }, 'orphans removed');
        return outcome;
      }),
  };
}

/** Everything on this machine that bears a sandbox's id, by what is there and not by what anybody remembers. */
export async function heldIds(ports: HostPorts): Promise<string[]> {
  const { hypervisor, network, disk, snapshots, builds } = ports;
  const lists = [hypervisor.list(), network.list(), disk.list(), snapshots.list(), builds.unfinished()];
  return [...new Set((await Promise.all(lists)).flat())].sort();
}

/**
 * Asks again while no step of it runs, so that what was found some time ago is not taken for how things are.
 * Returns whether it was removed.
 */
export async function removeOrphan(
  { ports, gate, connections }: { ports: HostPorts; gate: StepGate; connections: GuestConnections },
  id: string,
  options: { unknown: boolean },
): Promise<boolean> {
  return gate.exclusive(id, async () => {
    const verdict = (await ports.controlPlane.verdicts([id])).get(id);
    if (!mayGo(verdict, ports.journal.isOwn(id), options.unknown)) return false;
    await removeEverything(ports, connections, id);
    await ports.builds.deleteUnfinished(id);
    return true;
  });
}

/**
 * What ended elsewhere than here, and was not made by this host under its present id, may be what a machine that was
 * registered anew holds of its former id: it ended for this host only.
 */
function mayGo(verdict: Verdict | undefined, own: boolean, unknown: boolean): boolean {
  switch (verdict) {
    case 'ended':
      return own;
    case 'unknown':
      return unknown;
    case 'live':
    case undefined:
      return false;
  }
}

async function inventory(ports: HostPorts, log: StepLog): Promise<Holding[]> {
  const held = await heldIds(ports);
  const found = await Promise.all(held.map((id) => holdingOf(ports, id, log)));
  return [...found, ...(await remembered(ports, new Set(held)))];
}

async function holdingOf(ports: HostPorts, id: string, log: StepLog): Promise<Holding> {
  const [vm, disk, network, snapshots] = await Promise.all([
    vmOf(ports, id, log),
    ports.disk.find(id),
    ports.network.find(id),
    ports.snapshots.generations(id),
  ]);
  const epoch = ports.journal.epochOf(id) ?? null;
  return { id, vm, disk: disk !== undefined, network: network !== undefined, snapshots, epoch };
}

/** One that does not answer is there and does nothing: reported so, it is looked at, and the others are still told of. */
async function vmOf({ hypervisor }: HostPorts, id: string, log: StepLog): Promise<VmStatus> {
  try {
    return await hypervisor.status(id);
  } catch (err) {
    log.warn({ err, sandboxId: id }, 'a VM does not tell its state; it counts as frozen');
    return 'frozen';
  }
}

/**
 * Of sandboxes that have nothing here any more the journal still knows the epoch. It matters where the control plane
 * takes them for living, as after its database was restored from a backup; else they are tombstones, and many.
 */
async function remembered(ports: HostPorts, held: ReadonlySet<string>): Promise<Holding[]> {
  const ids = ports.journal.ids().filter((id) => !held.has(id));
  if (ids.length === 0) return [];
  const verdicts = await ports.controlPlane.verdicts(ids);
  return ids
    .filter((id) => verdicts.get(id) === 'live')
    .map((id) => {
      const epoch = ports.journal.epochOf(id) ?? null;
      return { id, vm: 'absent', disk: false, network: false, snapshots: [], epoch };
    });
}
