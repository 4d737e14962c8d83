import type { Client } from '@temporalio/client';
import type { ControlActivities, Lease, SurveyedSandbox } from '../../activities/control/contract.js';
import type { Holding } from '../../activities/host/contract.js';
import type { Finding, FindingKind, Reconciled } from '../../workflows/contract/findings.js';
import { sandboxWorkflowId } from '../../workflows/contract/ids.js';
import { WORKFLOW_OF, type RecoverSandboxInput } from '../../workflows/contract/operations.js';
import type { FakeOperation, FakeRow } from './fake-rows.js';
import { TIMING } from './workflow-timing.js';

type Reconciliation = Pick<
  ControlActivities,
  | 'checkLease'
  | 'endLoss'
  | 'surveyHosts'
  | 'surveySandboxes'
  | 'compareHost'
  | 'repair'
  | 'ripeOrphans'
  | 'recordFindings'
>;

/** What of the database in memory is compared. */
export interface FakeDatabase {
  readonly client: Client;
  readonly queue: string;
  readonly sandboxes: Map<string, FakeRow>;
  readonly operations: Map<string, FakeOperation>;
  readonly hosts: string[];
  readonly silent: Set<string>;
  readonly lost: Set<string>;
  readonly seen: Set<string>;
  readonly reconciled: Reconciled[];
  row(id: string): FakeRow;
  verdict(sandboxId: string, hostId: string): 'live' | 'ended' | 'unknown';
  outage(name: keyof ControlActivities): void;
}

/** How soon a lease is looked at again. */
const CHECK_MS = 100;

/** The side of the database that compares rows with hosts, with the findings that the workflows tell apart. */
export function fakeReconciliation(control: FakeDatabase): Reconciliation {
  return {
    checkLease: async ({ hostId }) => {
      control.outage('checkLease');
      return checkLease(control, hostId);
    },
    endLoss: async ({ hostId }) => {
      control.outage('endLoss');
      control.lost.delete(hostId);
    },
    surveyHosts: async () => control.hosts.map((id) => ({ id, online: !control.silent.has(id) })),
    surveySandboxes: async ({ hostId }) => {
      control.outage('surveySandboxes');
      return rowsOf(control, hostId).map(([id, row]) => surveyed(control, id, row));
    },
    compareHost: async ({ hostId, before, holdings }) => {
      control.outage('compareHost');
      return compare(control, hostId, before, holdings);
    },
    repair: async ({ findings, reason }) => {
      control.outage('repair');
      return Promise.all(findings.map((finding) => repair(control, finding, reason)));
    },
    ripeOrphans: async ({ findings, unknown }) => {
      const asked = findings.filter(({ kind }) => unknown || kind === 'orphan');
      const isRipe = ({ sandboxId }: Finding) => control.seen.has(String(sandboxId));
      const ripe = asked.filter(isRipe).map(({ sandboxId }) => String(sandboxId));
      const waiting = asked.filter((finding) => !isRipe(finding));
      for (const { sandboxId } of waiting) control.seen.add(String(sandboxId));
      return {
        ripe,
        waiting: waiting.map((finding): Reconciled => ({ ...finding, outcome: 'waiting', after: { grace: true } })),
      };
    },
    recordFindings: async ({ findings }) => {
      control.reconciled.push(...findings);
    },
  };
}

function checkLease(control: FakeDatabase, hostId: string): Lease {
  if (!control.hosts.includes(hostId)) return { state: 'gone' };
  if (!control.silent.has(hostId)) {
    return control.lost.has(hostId) ? { state: 'returned' } : { state: 'held', checkInMs: CHECK_MS };
  }
  control.lost.add(hostId);
  for (const [, row] of rowsOf(control, hostId)) {
    if (['running', 'pausing', 'resuming'].includes(row.state)) row.state = 'missing';
  }
  return { state: 'lost', checkInMs: CHECK_MS };
}

function rowsOf(control: FakeDatabase, hostId: string | null): [string, FakeRow][] {
  return [...control.sandboxes].filter(([, row]) => row.hostId === hostId && row.state !== 'stopped');
}

function surveyed(control: FakeDatabase, id: string, { epoch, state }: FakeRow): SurveyedSandbox {
  const open = [...control.operations.values()].some((op) => op.sandboxId === id && op.state === 'running');
  return { id, epoch, state, open };
}

async function compare(
  control: FakeDatabase,
  hostId: string | null,
  before: SurveyedSandbox[],
  holdings: Holding[] | null,
): Promise<Finding[]> {
  const held = new Map((holdings ?? []).map((holding) => [holding.id, holding]));
  const findings: Finding[] = [];
  for (const was of before) {
    const now = surveyed(control, was.id, control.row(was.id));
    if (now.epoch !== was.epoch) continue;
    const vm = held.get(was.id)?.vm ?? 'absent';
    const kind = now.open ? await lostRun(control, now) : kindOf(now, holdings === null ? null : vm);
    if (kind) findings.push({ kind, hostId, sandboxId: was.id, epoch: now.epoch, before: { state: now.state, vm } });
  }
  for (const { id } of held.values()) {
    const verdict = control.verdict(id, String(hostId));
    if (verdict === 'live') continue;
    const kind = verdict === 'ended' ? 'orphan' : 'unknown';
    findings.push({ kind, hostId, sandboxId: id, epoch: null, before: { verdict } });
  }
  if (hostId !== null && holdings === null && !control.silent.has(hostId)) {
    findings.push({ kind: 'host_unasked', hostId, sandboxId: null, epoch: null, before: {} });
  }
  return findings;
}

async function lostRun(control: FakeDatabase, { id }: SurveyedSandbox): Promise<FindingKind | undefined> {
  const { status } = await control.client.workflow.getHandle(sandboxWorkflowId(id)).describe();
  return status.name === 'RUNNING' ? undefined : 'run_lost';
}

/** `vm` null: the host was not asked. */
function kindOf({ state }: SurveyedSandbox, vm: string | null): FindingKind | undefined {
  if (vm === null) return undefined;
  if (state === 'running' && vm !== 'running') return vm === 'frozen' ? 'vm_frozen' : 'vm_lost';
  if (state === 'missing') return vm === 'running' ? 'found' : 'unresolved';
  return undefined;
}

async function repair(control: FakeDatabase, finding: Finding, reason: string): Promise<Reconciled> {
  const sandboxId = String(finding.sandboxId);
  if (finding.kind === 'found') {
    control.row(sandboxId).state = 'running';
    return { ...finding, outcome: 'repaired', after: { state: 'running' } };
  }
  const opId = `${finding.kind.replaceAll('_', '')}${sandboxId}${finding.epoch}`;
  const input: RecoverSandboxInput = {
    ...{ opId, sandboxId, teamId: 'team', timing: TIMING, reason, boot: false, discardMemory: false },
    ...(finding.epoch === null ? {} : { ifEpoch: finding.epoch }),
  };
  await control.client.workflow.start(WORKFLOW_OF.recover, {
    workflowId: sandboxWorkflowId(sandboxId),
    taskQueue: control.queue,
    args: [input],
    memo: { opId },
    workflowIdConflictPolicy: 'FAIL',
  });
  return { ...finding, outcome: 'repaired', after: { operation: opId } };
}
