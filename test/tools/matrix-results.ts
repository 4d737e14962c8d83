import type { TestCounts } from './test-counts.js';

const LAST_LINE = /^lost (\d+), duplicated (\d+), leaked (\d+), stuck (\d+) of (\d+) cases$/m;

/** By the last line of the kill matrix; undefined when it is not there. One case may be bad in several ways. */
export function countMatrixResults(output: string): TestCounts | undefined {
  const found = LAST_LINE.exec(output);
  if (!found) return undefined;
  const [lost = 0, duplicated = 0, leaked = 0, stuck = 0, cases = 0] = found.slice(1).map(Number);
  const failed = Math.min(cases, lost + duplicated + leaked + stuck);
  return { passed: cases - failed, failed, skips: [], problems: [] };
}
