import { describe, expect, it } from '@jest/globals';
import { FINDINGS } from '../../workflows/contract/findings.js';
import type { Finding, ReconcileReport } from '../rest-types.js';
import { changeOf, FINDING_TERMS, isFinished, subjectOf, summaryOf } from './findings-view.js';

function finding(overrides: Partial<Finding>): Finding {
  return { kind: 'vm_lost', host_id: 'h1', sandbox_id: 's1', outcome: 'repaired', before: {}, after: {}, ...overrides };
}

function report(findings: Finding[], hosts = { asked: 2, answered: 2 }): ReconcileReport {
  return { dry_run: false, hosts, sandboxes: 1, findings };
}

describe('the summary of a reconciliation', () => {
  it('says that nothing was found', () => {
    expect(summaryOf(report([]))).toBe('1 sandbox on 2 hosts compared: nothing found');
  });

  it('counts findings by outcome and names hosts that did not answer', () => {
    const findings = [finding({}), finding({ outcome: 'kept' }), finding({ outcome: 'kept' })];
    expect(summaryOf(report(findings, { asked: 2, answered: 1 }))).toBe(
      '1 sandbox on 2 hosts compared (1 did not answer): 3 findings, 1 repaired, 2 kept for you to decide',
    );
  });
});

describe('a finding', () => {
  it.each([
    ['repaired', true],
    ['waiting', false],
    ['failed', false],
    ['kept', false],
    ['would_repair', false],
  ] as const)('that is %s leaves nothing to do: %s', (outcome, finished) => {
    expect(isFinished(finding({ outcome }))).toBe(finished);
  });

  it('shows what was and what is, without what is absent', () => {
    const change = changeOf({
      before: { state: 'running', vm: 'absent', generation: null },
      after: { snapshots: [2] },
    });
    expect(change).toBe('state=running vm=absent → snapshots=[2]');
    expect(changeOf({ before: { state: 'running' }, after: {} })).toBe('state=running');
  });

  it('is about a sandbox, a host or neither', () => {
    expect(subjectOf(finding({}))).toBe('s1');
    expect(subjectOf(finding({ sandbox_id: null }))).toBe('the host');
    expect(subjectOf(finding({ sandbox_id: null, host_id: null }))).toBe('');
  });

  it('of every kind is explained in the help', () => {
    expect(FINDING_TERMS.rows.map(([kind]) => kind)).toEqual(Object.keys(FINDINGS));
    for (const [, meaning] of FINDING_TERMS.rows) expect(meaning).not.toBe('');
  });
});
