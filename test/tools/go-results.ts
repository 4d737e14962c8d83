import type { TestCounts } from './test-counts.js';

/** One line of `go test -json` (see `go doc test2json`). */
interface GoEvent {
  Action: string;
  Package?: string;
  Test?: string;
  Output?: string;
}

/**
 * Counts the tests that have no subtests of their own, so that a table of ten cases is ten and not eleven. A test
 * that fails beside its subtests counts as well.
 */
export function countGoResults(jsonLines: string): TestCounts {
  const events = jsonLines
    .split('\n')
    .filter(isEvent)
    .map((line) => JSON.parse(line) as GoEvent);
  const ended = events.filter(({ Action }) => Action === 'pass' || Action === 'fail' || Action === 'skip');
  const failedTests = ended.filter(({ Action, Test }) => Action === 'fail' && Test !== undefined);
  const counts: TestCounts = { passed: 0, failed: 0, skips: [], problems: [] };
  for (const event of ended) {
    const { Action, Package: pkg = '', Test: test } = event;
    const inside = (other: GoEvent) =>
      other.Package === pkg && (test === undefined || other.Test?.startsWith(`${test}/`));
    if (test === undefined) {
      // A package that does not build, panics outside a test or ends early fails without a failed test.
      if (Action === 'fail' && !failedTests.some(inside)) counts.problems.push(`${pkg}: ${packageOutput(events, pkg)}`);
    } else if (Action === 'fail') {
      if (!failedTests.some(inside)) counts.failed++;
    } else if (!ended.some((other) => other.Test !== undefined && inside(other))) {
      if (Action === 'pass') counts.passed++;
      else counts.skips.push(goSkip(events, pkg, test));
    }
  }
  return counts;
}

/** The output of what failed, for people; what passed is of no interest. */
export function failedGoOutput(jsonLines: string): string {
  const events = jsonLines
    .split('\n')
    .filter(isEvent)
    .map((line) => JSON.parse(line) as GoEvent);
  const failed = new Set(events.filter(({ Action }) => Action === 'fail').map(key));
  return events
    .filter((event) => event.Output !== undefined && (failed.has(key(event)) || event.Action === 'build-output'))
    .map(({ Output }) => Output)
    .join('');
}

function isEvent(line: string): boolean {
  return line.startsWith('{');
}

function key({ Package: pkg = '', Test: test = '' }: GoEvent): string {
  return `${pkg} ${test}`;
}

function packageOutput(events: readonly GoEvent[], pkg: string): string {
  const lines = events.filter(
    (event) => event.Package === pkg && event.Test === undefined && event.Output !== undefined,
  );
  return lines.map(({ Output }) => Output?.trim()).join(' ') || 'failed without a failed test';
}

/** `t.Skip(reason)` prints "file_test.go:12: reason" before its verdict. */
function goSkip(events: readonly GoEvent[], pkg: string, test: string): TestCounts['skips'][number] {
  const said = events
    .filter((event) => event.Package === pkg && event.Test === test)
    .map(({ Output = '' }) => /^\s*\w+_test\.go:\d+: (.+)$/.exec(Output.trimEnd())?.[1])
    .find((line) => line !== undefined);
  const name = `${pkg} ${test}`;
  return said === undefined ? { test: name } : { test: name, reason: said };
}
