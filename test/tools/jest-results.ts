import { DECLARED_SKIP, type Skip, type TestCounts } from './test-counts.js';

/** The part of `jest --json` that is read here. */
interface JestResults {
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { status: string; fullName: string }[];
  }[];
}

export function countJestResults(json: string): TestCounts {
  const counts: TestCounts = { passed: 0, failed: 0, skips: [], problems: [] };
  for (const file of (JSON.parse(json) as JestResults).testResults) {
    let failedHere = 0;
    for (const { status, fullName } of file.assertionResults) {
      if (status === 'passed') counts.passed++;
      else if (status === 'failed') failedHere++;
      else counts.skips.push(skip(fullName));
    }
    counts.failed += failedHere;
    // A file that does not load has no tests to fail, yet all of them are missing.
    if (file.status === 'failed' && failedHere === 0) counts.problems.push(`${file.name}: ${firstLine(file.message)}`);
  }
  return counts;
}

function skip(test: string): Skip {
  const reason = DECLARED_SKIP.exec(test)?.[1];
  return reason === undefined ? { test } : { test, reason };
}

function firstLine(message: string): string {
  return message.split('\n').find((line) => line.trim() !== '') ?? 'failed without a message';
}
