import pc from 'picocolors';
import { FINDINGS } from '../../workflows/contract/findings.js';
import type { Finding, ReconcileReport } from '../rest-types.js';

/** Told by the table that the reconciliation itself works by. */
export const FINDING_TERMS = {
  title: 'Findings:',
  rows: Object.entries(FINDINGS).map(
    ([kind, { means, repair }]) => [kind, repair === null ? means : `${means}; ${repair}`] as const,
  ),
};

/** Whether nobody has to do or wait for anything. */
export function isFinished({ outcome }: Pick<Finding, 'outcome'>): boolean {
  return outcome === 'repaired';
}

export function subjectOf({ sandbox_id, host_id }: Pick<Finding, 'sandbox_id' | 'host_id'>): string {
  return sandbox_id ?? (host_id === null ? '' : 'the host');
}

/** `state=running vm=absent → operation=op1`. */
export function changeOf({ before, after }: Pick<Finding, 'before' | 'after'>): string {
  return [before, after]
    .map(facts)
    .filter((text) => text !== '')
    .join(' → ');
}

function facts(record: Record<string, unknown>): string {
  return Object.entries(record)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
}

export function colouredOutcome(outcome: Finding['outcome']): string {
  switch (outcome) {
    case 'repaired':
      return pc.green(outcome);
    case 'failed':
      return pc.red(outcome);
    case 'waiting':
    case 'kept':
    case 'would_repair':
      return pc.yellow(outcome);
  }
}

const OUTCOME_WORDS = {
  repaired: 'repaired',
  would_repair: 'would be repaired',
  waiting: 'waiting',
  failed: 'failed',
  kept: 'kept for you to decide',
} as const satisfies Record<Finding['outcome'], string>;

/** One line that ends the table. */
export function summaryOf({ hosts, sandboxes, findings }: ReconcileReport): string {
  const silent = hosts.asked - hosts.answered;
  const looked = `${counted(sandboxes, 'sandbox', 'sandboxes')} on ${counted(hosts.asked, 'host', 'hosts')} compared`;
  const unheard = silent === 0 ? '' : ` (${silent} did not answer)`;
  if (findings.length === 0) return `${looked}${unheard}: nothing found`;
  const outcomes = Object.entries(OUTCOME_WORDS)
    .map(([outcome, words]) => [findings.filter((one) => one.outcome === outcome).length, words] as const)
    .filter(([count]) => count > 0)
    .map(([count, words]) => `${count} ${words}`);
  return `${looked}${unheard}: ${counted(findings.length, 'finding', 'findings')}, ${outcomes.join(', ')}`;
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
