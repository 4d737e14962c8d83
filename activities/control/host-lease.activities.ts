import type { SandboxState } from '../../workflows/contract/states.js';
import type { ControlActivities, Lease } from './contract.js';
import type { ControlStore, ControlTransaction } from './ports.js';
import type { HostLease } from './survey-ports.js';

type HostLeaseActivities = Pick<ControlActivities, 'checkLease' | 'endLoss'>;

/** A little after the lease has run out, so that one look is enough. */
const MARGIN_MS = 250;
/** A lease that is about to run out is not looked at more often than this. */
const MIN_CHECK_MS = 1_000;
/** How often a lost host is looked for, and one that nobody can hear. */
const LOST_CHECK_MS = 5_000;

/** States of a sandbox whose VM was, or may have been, running when its host fell silent. */
export const LOSABLE: readonly SandboxState[] = ['running', 'pausing', 'resuming'];

export function createHostLeaseActivities(store: ControlStore): HostLeaseActivities {
  return {
    checkLease: ({ hostId }) => store.transaction((tx) => checkLease(tx, hostId)),
    endLoss: ({ hostId }) =>
      store.transaction(async (tx) => {
        const host = await tx.lockHost(hostId);
        // Silent again meanwhile: it stays lost.
        if (host?.lostAt && host.leftMs > 0) await tx.setLostAt(hostId, null);
      }),
  };
}

async function checkLease(tx: ControlTransaction, hostId: string): Promise<Lease> {
  const host = await tx.lockHost(hostId);
  if (!host) return { state: 'gone' };
  if (host.leftMs > 0) return host.lostAt ? { state: 'returned' } : { state: 'held', checkInMs: checkIn(host) };
  await loseHost(tx, host);
  return { state: 'lost', checkInMs: LOST_CHECK_MS };
}

function checkIn({ leftMs, listening }: HostLease): number {
  return listening ? Math.max(MIN_CHECK_MS, Math.ceil(leftMs) + MARGIN_MS) : LOST_CHECK_MS;
}

/**
 * Nobody can say what became of what ran there. Operations that are open go on: how they end says more than this. One that
 * could not be carried out may say `running` again afterwards, so a host that stays lost is gone over again.
 */
export async function loseHost(tx: ControlTransaction, host: HostLease): Promise<number> {
  const silent = { id: host.id, silentSince: host.heartbeatAt };
  if (host.lostAt) return tx.markMissing(silent, ['running']);
  await tx.setLostAt(host.id, new Date());
  return tx.markMissing(silent, LOSABLE);
}
