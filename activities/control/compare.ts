import type { Finding, FindingKind } from '../../workflows/contract/findings.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import type { Holding, Verdict, VmStatus } from '../host/contract.js';
import type { SurveyedSandbox } from './contract.js';
import type { SurveyRow } from './survey-ports.js';

/** All that is known of one host when its rows are compared. */
export interface Comparison {
  hostId: string | null;
  /** Rows as they were before the host was asked. */
  before: readonly SurveyedSandbox[];
  /** Rows as they were after it had answered. */
  now: readonly SurveyRow[];
  /** Null when it could not be asked. */
  holdings: readonly Holding[] | null;
  /** Whose that is which has no row in `now`. */
  verdicts: ReadonlyMap<string, Verdict>;
  /** Builds of `verdicts` that have ended and whose run still tidies up. */
  tidying: ReadonlySet<string>;
  /** Sandboxes in the middle of an operation of which no run is open. */
  runLost: ReadonlySet<string>;
  /** Builds that say that they run and of which no run is open. */
  buildsLost: ReadonlySet<string>;
  /** Sandboxes with a timeout and no keeper. */
  unkept: ReadonlySet<string>;
  host: HostSituation | null;
}

export interface HostSituation {
  /** Its lease is held. */
  online: boolean;
  watched: boolean;
  /** The lease has run out long enough ago for its watch to have noticed, and rows say otherwise: how many. */
  overlooked: number;
  silentSince: string;
}

const MIDWAY: readonly SandboxState[] = ['starting', 'pausing', 'resuming', 'stopping'];

/** In the middle of an operation: by its operation's row, or by a state that only an operation leaves again. */
export function isMidway({ open, state }: SurveyedSandbox): boolean {
  return open || MIDWAY.includes(state);
}

/** What a row should say that is older than its host. */
export interface Shown {
  state: 'running' | 'paused';
  generation: number;
}

/** Rows that nothing has moved between the two looks: only of those something may be concluded. */
export function settledRows(before: readonly SurveyedSandbox[], now: readonly SurveyRow[]): SurveyRow[] {
  const seen = new Map(before.map((row) => [row.id, row]));
  return now.filter((row) => {
    const then = seen.get(row.id);
    return then?.epoch === row.epoch && then.state === row.state && then.open === row.open;
  });
}

/** What is not as it should be. Touches nothing and asks nobody. */
export function compare(comparison: Comparison): Finding[] {
  const { hostId, before, now, buildsLost } = comparison;
  const still = settledRows(before, now);
  return [
    ...(hostId === null ? [] : hostFindings(hostId, comparison)),
    ...still.flatMap((row) => rowFindings(row, comparison)),
    ...[...buildsLost].map((id) => buildFinding(id, hostId)),
    ...(hostId === null ? [] : leftovers(hostId, comparison)),
  ];
}

function hostFindings(hostId: string, { host, holdings }: Comparison): Finding[] {
  if (!host) return [];
  const about = (kind: FindingKind, before: Record<string, unknown>): Finding => ({
    kind,
    hostId,
    sandboxId: null,
    epoch: null,
    before,
  });
  const facts = { silent_since: host.silentSince, sandboxes: host.overlooked };
  return [
    ...(host.overlooked > 0 ? [about('host_silent', facts)] : []),
    ...(host.watched ? [] : [about('watch_missing', {})]),
    ...(host.online && holdings === null ? [about('host_unasked', {})] : []),
  ];
}

function buildFinding(id: string, hostId: string | null): Finding {
  return { kind: 'build_lost', hostId, sandboxId: id, epoch: null, before: { state: 'running' } };
}

function rowFindings(row: SurveyRow, { holdings, runLost, unkept }: Comparison): Finding[] {
  const about = (kind: FindingKind, facts: Record<string, unknown>): Finding => ({
    kind,
    hostId: row.hostId,
    sandboxId: row.id,
    epoch: row.epoch,
    before: { state: row.state, ...facts },
  });
  const held = holdings && (holdings.find(({ id }) => id === row.id) ?? nothing(row.id));
  const lost = runLost.has(row.id);
  const behind = held !== null && (lost || !isMidway(row)) && (held.epoch ?? 0) > row.epoch;
  // Of a row that is older than the host nothing else may be concluded than what the host shows.
  const shown = behind ? shownBy(held, row) : null;
  const actual = shown ? { ...row, ...shown, open: false } : row;
  const found: Finding[] = [];
  // First: whatever mends the sandbox afterwards would be refused by the host.
  if (behind) {
    const facts = { epoch: row.epoch, host_epoch: held.epoch, vm: held.vm, snapshots: held.snapshots };
    found.push(about('epoch_behind', { ...facts, ...(shown ? { shown } : {}) }));
  }
  if (lost && !shown) found.push(about('run_lost', { open: row.open }));
  const kind = held && !isMidway(actual) ? machineFinding(actual, held) : null;
  if (held && kind) {
    found.push(about(kind, { vm: held.vm, generation: actual.generation, snapshots: held.snapshots }));
  } else if (unkept.has(row.id) && !shown) {
    // Whatever mends its machine starts its keeper too.
    found.push(about('keeper_missing', { expires_at: row.expiresAt?.toISOString() ?? null }));
  }
  return found;
}

/** What a sandbox is by what its host has of it; null when that does not tell, and for one that is being ended. */
function shownBy({ vm, snapshots }: Holding, { state, generation }: SurveyRow): Shown | null {
  if (state === 'stopping') return null;
  if (vm !== 'absent') return { state: 'running', generation };
  // With the newest memory its disk goes back to the point that belongs to it, if it was resumed since.
  return snapshots.length > 0 ? { state: 'paused', generation: Math.max(...snapshots) } : null;
}

function machineFinding(row: SurveyRow, { vm, snapshots }: Holding): FindingKind | null {
  switch (row.state) {
    case 'running':
      return BESIDE_RUNNING[vm];
    case 'missing':
      // What an operation left half done may run and be of no use: a recovery has to look.
      return vm === 'running' && !row.unfinished ? 'found' : 'unresolved';
    case 'paused':
      if (!snapshots.includes(row.generation)) return 'snapshot_lost';
      return vm === 'absent' ? null : 'vm_unexpected';
    case 'error':
      return vm === 'absent' ? null : 'vm_unexpected';
    default:
      return null;
  }
}

const BESIDE_RUNNING: Readonly<Record<VmStatus, FindingKind | null>> = {
  running: null,
  absent: 'vm_lost',
  frozen: 'vm_frozen',
};

function nothing(id: string): Holding {
  return { id, vm: 'absent', disk: false, network: false, snapshots: [], epoch: null };
}

/** What the host holds and has no row for. What had one before the host was asked has only just ended or moved. */
function leftovers(hostId: string, { before, now, holdings, verdicts, tidying }: Comparison): Finding[] {
  const rows = new Set([...before, ...now].map(({ id }) => id));
  const found: Finding[] = [];
  for (const held of holdings ?? []) {
    const verdict = verdicts.get(held.id);
    if (rows.has(held.id) || tidying.has(held.id) || verdict === undefined || verdict === 'live') continue;
    const { id, vm, disk, network, snapshots } = held;
    const kind = verdict === 'ended' ? 'orphan' : 'unknown';
    found.push({ kind, hostId, sandboxId: id, epoch: null, before: { vm, disk, network, snapshots } });
  }
  return found;
}
