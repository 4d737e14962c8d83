import {
  buildWorkflowId,
  hostWatchWorkflowId,
  sandboxWorkflowId,
  ttlWorkflowId,
} from '../../workflows/contract/ids.js';
import { compare, isMidway, settledRows, type HostSituation } from './compare.js';
import { eachOf } from './concurrency.js';
import type { ControlActivities } from './contract.js';
import { LOSABLE } from './host-lease.activities.js';
import type { ControlStore, ControlTemporal } from './ports.js';
import type { Verdict } from '../host/contract.js';
import type { SurveyRow, SurveyStore } from './survey-ports.js';

type SurveyActivities = Pick<ControlActivities, 'surveyHosts' | 'surveySandboxes' | 'compareHost'>;
type Asking = Pick<ControlTemporal, 'isOpen' | 'keptOn'>;

/** Questions to Temporal that are under way at once. */
const QUESTIONS = 10;
/** How long ago a lease must have run out before its watch is said to have overlooked it. */
const WATCH_GRACE_MS = 5_000;

export function createSurveyActivities({ survey }: ControlStore, temporal: Asking): SurveyActivities {
  return {
    surveyHosts: () => survey.hosts(),
    surveySandboxes: async ({ hostId }) => {
      const rows = await survey.rowsOf(hostId);
      return rows.map(({ id, epoch, state, open }) => ({ id, epoch, state, open }));
    },
    compareHost: async ({ hostId, before, holdings }) => {
      const now = await survey.rowsOf(hostId);
      const still = settledRows(before, now);
      const strange = hostId === null ? [] : strangersAmong(holdings ?? [], now);
      const verdicts = hostId === null ? new Map<string, Verdict>() : await survey.verdicts(hostId, strange);
      const findings = compare({
        hostId,
        before,
        now,
        holdings,
        verdicts,
        tidying: await openOf(temporal, endedAmong(verdicts), buildWorkflowId),
        runLost: await runLostAmong(survey, temporal, still.filter(isMidway)),
        buildsLost: hostId === null ? new Set() : await buildsLostOn(survey, temporal, hostId),
        unkept: await unkeptAmong(survey, temporal, hostId, still),
        host: hostId === null ? null : await situationOf(survey, temporal, hostId, now),
      });
      if (hostId !== null && holdings !== null) {
        const held = findings.filter(({ kind }) => kind === 'orphan' || kind === 'unknown');
        await survey.forgetOrphansBut(
          hostId,
          held.map(({ sandboxId }) => sandboxId ?? ''),
        );
      }
      return findings;
    },
  };
}

function strangersAmong(holdings: readonly { id: string }[], rows: readonly SurveyRow[]): string[] {
  const known = new Set(rows.map(({ id }) => id));
  return holdings.map(({ id }) => id).filter((id) => !known.has(id));
}

function endedAmong(verdicts: ReadonlyMap<string, Verdict>): string[] {
  return [...verdicts].filter(([, verdict]) => verdict === 'ended').map(([id]) => id);
}

/** Those of these ids of which a run is open. */
async function openOf(temporal: Asking, ids: readonly string[], workflowId: (id: string) => string) {
  const open = await eachOf(ids, QUESTIONS, (id) => temporal.isOpen(workflowId(id)));
  return new Set(ids.filter((_, index) => open[index]));
}

/**
 * A run closes after its row has said so, and a row is read before its run is asked for: so only a row that still says
 * the same after the answer counts.
 */
async function unmovedSince(survey: SurveyStore, rows: readonly SurveyRow[]): Promise<Set<string>> {
  if (rows.length === 0) return new Set();
  const again = await survey.rows(rows.map(({ id }) => id));
  return new Set(settledRows(rows, again).map(({ id }) => id));
}

async function runLostAmong(survey: SurveyStore, temporal: Asking, midway: readonly SurveyRow[]): Promise<Set<string>> {
  const open = await openOf(temporal, idsOf(midway), sandboxWorkflowId);
  return unmovedSince(
    survey,
    midway.filter(({ id }) => !open.has(id)),
  );
}

/** One whose row says that it has ended since Temporal was asked is none. */
async function buildsLostOn(survey: SurveyStore, temporal: Asking, hostId: string): Promise<Set<string>> {
  const running = await survey.runningBuilds(hostId);
  const open = await openOf(temporal, running, buildWorkflowId);
  const lost = running.filter((id) => !open.has(id));
  const still = lost.length === 0 ? [] : await survey.runningBuilds(hostId);
  return new Set(lost.filter((id) => still.includes(id)));
}

/** An operation that has said `running` may not yet have started the keeper: while its run is open nothing is missing. */
async function unkeptAmong(
  survey: SurveyStore,
  temporal: Asking,
  hostId: string | null,
  still: readonly SurveyRow[],
): Promise<Set<string>> {
  const timed = still.filter(({ state, open, expiresAt }) => state === 'running' && !open && expiresAt !== null);
  if (timed.length === 0) return new Set();
  const kept = await temporal.keptOn(hostId);
  const doubtful = timed.filter(({ id }) => !kept.has(id));
  const busy = await openOf(temporal, idsOf(doubtful), sandboxWorkflowId);
  const idle = doubtful.filter(({ id }) => !busy.has(id));
  const keepers = await openOf(temporal, idsOf(idle), ttlWorkflowId);
  return unmovedSince(
    survey,
    idle.filter(({ id }) => !keepers.has(id)),
  );
}

async function situationOf(
  survey: SurveyStore,
  temporal: Asking,
  hostId: string,
  rows: readonly SurveyRow[],
): Promise<HostSituation | null> {
  const [lease, watched] = [await survey.hostLease(hostId), await temporal.isOpen(hostWatchWorkflowId(hostId))];
  if (!lease) return null;
  const silent = lease.leftMs < -WATCH_GRACE_MS;
  // Of a host that is lost already, operations that go on are not its watch's business.
  const overlooked = rows.filter(({ state, open }) => (lease.lostAt ? state === 'running' && !open : isLosable(state)));
  return {
    online: lease.leftMs > 0,
    watched,
    overlooked: silent ? overlooked.length : 0,
    silentSince: lease.heartbeatAt.toISOString(),
  };
}

function isLosable(state: SurveyRow['state']): boolean {
  return LOSABLE.includes(state);
}

function idsOf(rows: readonly SurveyRow[]): string[] {
  return rows.map(({ id }) => id);
}
