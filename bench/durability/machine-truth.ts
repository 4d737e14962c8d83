import { setTimeout as delay } from 'node:timers/promises';
import { HostView, type Possessions } from '../../test/chaos/checks/host-view.js';
import { doubledVmms, readLedger } from '../../test/simulator/vmm-ledger.js';
import { idsOnMachine } from './machine-clean-up.js';
import type { Claim, Orchestrator } from './orchestrator.js';

/** Things of one sandbox on the machine, counted. */
export interface Things {
  vmms: number;
  namespaces: number;
  overlays: number;
  memories: number;
}

const SETTLE_MS = 10_000;
const LOOK_AGAIN_MS = 500;

export const NOTHING: Things = { vmms: 0, namespaces: 0, overlays: 0, memories: 0 };

/** What a sandbox may have, by what its orchestrator says of it. What is on its way may have anything. */
const ALLOWED: Record<Claim, Things> = {
  running: { vmms: 1, namespaces: 1, overlays: 1, memories: 0 },
  paused: { ...NOTHING, overlays: 1, memories: 1 },
  busy: { vmms: 1, namespaces: 1, overlays: 1, memories: Infinity },
  error: NOTHING,
  unknown: NOTHING,
};

export interface MachineTruth {
  /** Beyond what the orchestrator says is there. */
  leaked: Things;
  /** Sentences, one for each request that was done twice. */
  duplicated: string[];
}

/** What is on the machine against what the orchestrator says, once what it still clears away behind its answers is gone. */
export async function readTruth(orchestrator: Orchestrator): Promise<MachineTruth> {
  for (const end = Date.now() + SETTLE_MS; ; await delay(LOOK_AGAIN_MS)) {
    const truth = await readOnce(orchestrator);
    if (Date.now() > end || total(truth.leaked) === 0) return truth;
  }
}

async function readOnce(orchestrator: Orchestrator): Promise<MachineTruth> {
  const { host } = orchestrator;
  const [claims, ids, view] = await Promise.all([orchestrator.claims(), idsOnMachine(host), HostView.read(host)]);
  const found = await Promise.all([...ids].map(async (id) => ({ id, has: thingsOf(await view.of(id)) })));
  const doubled = doubledVmms(await readLedger(host.ledger));
  return {
    leaked: found.map(({ id, has }) => excess(has, claims.get(id) ?? 'unknown')).reduce(sum, NOTHING),
    duplicated: [...doubled, ...doneTwice(found, (id) => orchestrator.requestOf(id))],
  };
}

/** What is more than the claim allows. */
export function excess(has: Things, claim: Claim): Things {
  const allowed = ALLOWED[claim];
  return {
    vmms: Math.max(0, has.vmms - allowed.vmms),
    namespaces: Math.max(0, has.namespaces - allowed.namespaces),
    overlays: Math.max(0, has.overlays - allowed.overlays),
    memories: Math.max(0, has.memories - allowed.memories),
  };
}

/** Requests for one sandbox from which several virtual machines live. */
export function doneTwice(found: readonly { id: string; has: Things }[], requestOf: (id: string) => string): string[] {
  const vmms = new Map<string, number>();
  for (const { id, has } of found) vmms.set(requestOf(id), (vmms.get(requestOf(id)) ?? 0) + has.vmms);
  return [...vmms].filter(([, count]) => count > 1).map(([request, count]) => `${request} has ${count} VMMs`);
}

function sum(a: Things, b: Things): Things {
  return {
    vmms: a.vmms + b.vmms,
    namespaces: a.namespaces + b.namespaces,
    overlays: a.overlays + b.overlays,
    memories: a.memories + b.memories,
  };
}

export function total({ vmms, namespaces, overlays, memories }: Things): number {
  return vmms + namespaces + overlays + memories;
}

/** Half-written memories count as well. */
function thingsOf({ vmms, namespaces, overlays, snapshots, files }: Possessions): Things {
  const partial = files.filter((path) => path.endsWith('.partial'));
  return {
    vmms: vmms.length,
    namespaces: namespaces.length,
    overlays: overlays.length,
    memories: snapshots.length + partial.length,
  };
}
