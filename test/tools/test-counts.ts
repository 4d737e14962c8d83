/** A test that did not run, and why it says so. */
export interface Skip {
  test: string;
  /** Absent when nobody declared one, which fails the run. */
  reason?: string;
}

export interface TestCounts {
  passed: number;
  failed: number;
  skips: Skip[];
  /** What failed beside the tests themselves: files that did not load, packages that did not build. */
  problems: string[];
}

/** How test/support/needs.ts writes a skip's reason into the name of what it skips. */
export const DECLARED_SKIP = /\[skipped: (.+?)\]/;

export function addCounts(all: readonly TestCounts[]): TestCounts {
  return {
    passed: all.reduce((sum, counts) => sum + counts.passed, 0),
    failed: all.reduce((sum, counts) => sum + counts.failed, 0),
    skips: all.flatMap((counts) => counts.skips),
    problems: all.flatMap((counts) => counts.problems),
  };
}

/**
 * What the run amounts to. A problem and an undeclared skip are failures: each stands for tests that were meant to run
 * and did not. So is a run of nothing.
 */
export function verdict(counts: TestCounts): { closing: string; ok: boolean; undeclared: Skip[] } {
  const undeclared = counts.skips.filter((skip) => skip.reason === undefined);
  const failed = counts.failed + counts.problems.length + undeclared.length;
  const declared = counts.skips.length - undeclared.length;
  const closing = `${counts.passed} passed, ${failed} failed, ${declared} skipped`;
  return { closing, ok: failed === 0 && counts.passed > 0, undeclared };
}

/** More tests than this that share a reason share a line. */
const LISTED_SKIPS = 3;

/** One line per declared skip, or per reason where many tests have the same, as those have that need one binary. */
export function skipLines(skips: readonly Skip[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const { test, reason } of skips) {
    if (reason !== undefined) byReason.set(reason, [...(byReason.get(reason) ?? []), test]);
  }
  return [...byReason].flatMap(([reason, tests]) => {
    if (tests.length <= LISTED_SKIPS) return tests.map((test) => `SKIPPED: ${test}: ${reason}`);
    return [`SKIPPED: ${tests.length} tests, of which the first is "${tests[0]}": ${reason}`];
  });
}
