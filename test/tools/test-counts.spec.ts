import { describe, expect, it } from '@jest/globals';
import { countGoResults, failedGoOutput } from './go-results.js';
import { countJestResults } from './jest-results.js';
import { addCounts, skipLines, verdict } from './test-counts.js';
import { chooseTiers, TIERS } from './tiers.js';

function jest(...tests: [status: string, fullName: string][]) {
  const failed = tests.some(([status]) => status === 'failed');
  const assertionResults = tests.map(([status, fullName]) => ({ status, fullName }));
  return { name: 'x.spec.ts', status: failed ? 'failed' : 'passed', message: '', assertionResults };
}

const count = (...files: object[]) => countJestResults(JSON.stringify({ testResults: files }));
const go = (...events: object[]) => events.map((event) => JSON.stringify({ Package: 'envd', ...event })).join('\n');

describe('counts of jest', () => {
  it('tells passed, failed and skipped apart', () => {
    const counts = count(
      jest(['passed', 'a'], ['passed', 'b'], ['failed', 'c']),
      jest(['pending', 'd [skipped: needs KVM]']),
    );
    expect(counts).toEqual({
      passed: 2,
      failed: 1,
      skips: [{ test: 'd [skipped: needs KVM]', reason: 'needs KVM' }],
      problems: [],
    });
  });

  it('does not overlook a file that could not be loaded', () => {
    const broken = {
      name: 'x.spec.ts',
      status: 'failed',
      message: '\n  Cannot find module\n at y',
      assertionResults: [],
    };
    expect(count(broken).problems).toEqual(['x.spec.ts:   Cannot find module']);
  });
});

describe('counts of go', () => {
  it('counts the cases of a table and not the table', () => {
    const lines = go(
      { Action: 'pass', Test: 'TestTable/one' },
      { Action: 'pass', Test: 'TestTable/two' },
      { Action: 'pass', Test: 'TestTable' },
      { Action: 'pass', Test: 'TestTableless' },
      { Action: 'pass' },
    );
    expect(countGoResults(lines)).toEqual({ passed: 3, failed: 0, skips: [], problems: [] });
  });

  it('counts a failure once, whether in a subtest or beside it', () => {
    const lines = go(
      { Action: 'fail', Test: 'TestA/case' },
      { Action: 'fail', Test: 'TestA' },
      { Action: 'pass', Test: 'TestB/case' },
      { Action: 'output', Test: 'TestB', Output: 'B is wrong\n' },
      { Action: 'fail', Test: 'TestB' },
      { Action: 'fail' },
    );
    expect(countGoResults(lines)).toMatchObject({ passed: 1, failed: 2, problems: [] });
    expect(failedGoOutput(lines)).toBe('B is wrong\n');
  });

  it('does not overlook a package that does not build', () => {
    const lines = go({ Action: 'output', Output: 'FAIL envd [build failed]\n' }, { Action: 'fail' });
    expect(countGoResults(lines).problems).toEqual(['envd: FAIL envd [build failed]']);
  });

  it('takes the reason of a skip from what the test said', () => {
    const lines = go(
      { Action: 'output', Test: 'TestPty', Output: '    pty_test.go:9: needs /dev/ptmx\n' },
      { Action: 'skip', Test: 'TestPty' },
      { Action: 'skip', Test: 'TestSilent' },
    );
    expect(countGoResults(lines).skips).toEqual([
      { test: 'envd TestPty', reason: 'needs /dev/ptmx' },
      { test: 'envd TestSilent' },
    ]);
  });
});

describe('the verdict', () => {
  const passed = { passed: 1, failed: 0, skips: [], problems: [] };

  it('passes when tests ran and none failed', () => {
    const skipped = { ...passed, skips: [{ test: 'd', reason: 'needs KVM' }] };
    expect(verdict(addCounts([passed, skipped]))).toMatchObject({ ok: true, closing: '2 passed, 0 failed, 1 skipped' });
  });

  it.each([
    ['a test failed', { ...passed, failed: 1 }, '1 passed, 1 failed, 0 skipped'],
    ['a file was lost', { ...passed, problems: ['x'] }, '1 passed, 1 failed, 0 skipped'],
    ['a skip gave no reason', { ...passed, skips: [{ test: 'd' }] }, '1 passed, 1 failed, 0 skipped'],
    ['nothing ran', { ...passed, passed: 0 }, '0 passed, 0 failed, 0 skipped'],
  ])('fails when %s', (_, counts, closing) => {
    expect(verdict(counts)).toMatchObject({ ok: false, closing });
  });
});

describe('the lines of skips', () => {
  const skips = (count: number, reason?: string) =>
    Array.from({ length: count }, (_, i) => ({ test: `${reason} ${i}`, ...(reason === undefined ? {} : { reason }) }));

  it('name each test, until many share a reason', () => {
    expect(skipLines([...skips(2, 'needs KVM'), ...skips(9, 'needs a binary'), ...skips(5)])).toEqual([
      'SKIPPED: needs KVM 0: needs KVM',
      'SKIPPED: needs KVM 1: needs KVM',
      'SKIPPED: 9 tests, of which the first is "needs a binary 0": needs a binary',
    ]);
  });
});

describe('the choice of tiers', () => {
  it('is all that are not on demand, in their order, or those that were named', () => {
    expect(chooseTiers([]).tiers).toEqual(
      TIERS.filter(({ name }) => !['lab-faults', 'lab-trials', 'lab-chaos', 'cluster'].includes(name)),
    );
    expect(chooseTiers(['cluster']).tiers.map(({ name }) => name)).toEqual(['cluster']);
    expect(chooseTiers(['workflow', 'unit', 'cli/']).tiers.map(({ name }) => name)).toEqual(['unit', 'workflow']);
    expect(chooseTiers(['unit', 'cli/']).files).toEqual(['cli/']);
  });

  it('does not guess where a file belongs', () => {
    expect(() => chooseTiers(['units'])).toThrow('say which tier');
  });
});
