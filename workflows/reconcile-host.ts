import { isCancellation, log, proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Holding, HostCare } from '../activities/host/contract.js';
import { FINDINGS, type Finding, type Reconciled } from './contract/findings.js';
import { hostQueue } from './contract/ids.js';
import type { ReconcileInput } from './contract/operations.js';
import { comparing, control, waiting } from './control-steps.js';
import { describeFailure } from './failure.js';

export interface HostReport {
  answered: boolean;
  sandboxes: number;
  findings: Reconciled[];
}

export interface ReconcileOptions extends ReconcileInput {
  /** Why, as the operations that mend something show it. */
  reason: string;
}

/** Host to compare; `id` null: the sandboxes that never reached one. */
export interface ComparedHost {
  id: string | null;
  online: boolean;
}

/** What one activity is given to do: its input stays small, and a repeated attempt repeats little. */
const REPAIRS_AT_ONCE = 50;
const REMOVALS_AT_ONCE = 20;

/** Compares the rows of one host with its runs and with what the host holds, and mends what differs. */
export async function reconcileHost(host: ComparedHost, options: ReconcileOptions): Promise<HostReport> {
  const hostId = host.id;
  const before = await comparing.surveySandboxes({ hostId });
  const holdings = hostId !== null && host.online ? await inventoryOf(hostId) : null;
  const findings = await comparing.compareHost({ hostId, before, holdings });
  const report = { answered: holdings !== null, sandboxes: before.length };
  if (options.dryRun) return { ...report, findings: findings.map((finding) => preview(finding, options)) };

  const reconciled = [
    ...(await repair(findings, options)),
    ...(hostId === null ? [] : await removeOrphans(hostId, findings.filter(isLeftover), options)),
  ];
  if (reconciled.length > 0) {
    await control.recordFindings({ runId: workflowInfo().runId, findings: reconciled });
  }
  return { ...report, findings: reconciled };
}

function careOf(hostId: string) {
  return proxyActivities<HostCare>({
    taskQueue: hostQueue(hostId),
    scheduleToStartTimeout: '10 seconds',
    startToCloseTimeout: '1 minute',
    retry: { initialInterval: '1 second', maximumAttempts: 2 },
  });
}

/** Null when the host does not answer: then only rows and runs are compared. */
async function inventoryOf(hostId: string): Promise<Holding[] | null> {
  try {
    return await careOf(hostId).takeInventory.executeWithOptions({ summary: 'What the host holds' }, []);
  } catch (err) {
    if (isCancellation(err)) throw err;
    log.warn('the host did not tell what it holds', { hostId, ...describeFailure(err) });
    return null;
  }
}

/** What only the host can remove, after a grace period or when somebody says so. */
function isLeftover({ kind }: Finding): boolean {
  return kind === 'orphan' || kind === 'unknown';
}

function preview(finding: Finding, { removeUnknown }: ReconcileOptions): Reconciled {
  const { repair: would } = FINDINGS[finding.kind];
  if (would !== null) return { ...finding, outcome: 'would_repair', after: { repair: would } };
  if (finding.kind === 'unknown' && removeUnknown) {
    return { ...finding, outcome: 'would_repair', after: { repair: 'after the grace period the host removes it' } };
  }
  return { ...finding, outcome: 'kept', after: {} };
}

async function repair(findings: readonly Finding[], { reason }: ReconcileOptions): Promise<Reconciled[]> {
  const mendable = findings.filter((finding) => !isLeftover(finding) && FINDINGS[finding.kind].repair !== null);
  const reconciled: Reconciled[] = [];
  for (const some of chunks(mendable, REPAIRS_AT_ONCE)) {
    reconciled.push(...(await waiting.repair({ findings: some, reason })));
  }
  for (const finding of findings) {
    if (!isLeftover(finding) && FINDINGS[finding.kind].repair === null) {
      reconciled.push({ ...finding, outcome: 'kept', after: {} });
    }
  }
  return reconciled;
}

async function removeOrphans(
  hostId: string,
  leftovers: Finding[],
  { removeUnknown: unknown }: ReconcileOptions,
): Promise<Reconciled[]> {
  if (leftovers.length === 0) return [];
  const { ripe, waiting: notYet } = await control.ripeOrphans({ findings: leftovers, unknown });
  const outcomes = new Map<string | null, Pick<Reconciled, 'outcome' | 'after'>>();
  for (const { sandboxId, outcome, after } of notYet) outcomes.set(sandboxId, { outcome, after });
  for (const ids of chunks(ripe, REMOVALS_AT_ONCE)) {
    for (const [id, outcome] of await removed(hostId, ids, unknown)) outcomes.set(id, outcome);
  }
  return leftovers.map((finding) => ({
    ...finding,
    ...(outcomes.get(finding.sandboxId) ?? { outcome: 'kept', after: {} }),
  }));
}

async function removed(
  hostId: string,
  ids: string[],
  unknown: boolean,
): Promise<[string, Pick<Reconciled, 'outcome' | 'after'>][]> {
  try {
    const answer = await careOf(hostId).removeOrphans.executeWithOptions(
      { summary: `Remove what ${ids.length} ended sandboxes left` },
      [{ ids, unknown }],
    );
    const gone = new Set(answer.removed);
    return ids.map((id) => [
      id,
      gone.has(id)
        ? { outcome: 'repaired', after: { removed: true } }
        : { outcome: 'kept', after: { removed: false, why: 'the host was told that it is not an orphan any more' } },
    ]);
  } catch (err) {
    if (isCancellation(err)) throw err;
    const { code, message } = describeFailure(err);
    return ids.map((id) => [id, { outcome: 'failed', after: { code, message } }]);
  }
}

function chunks<T>(all: readonly T[], size: number): T[][] {
  const made: T[][] = [];
  for (let from = 0; from < all.length; from += size) made.push(all.slice(from, from + size));
  return made;
}
