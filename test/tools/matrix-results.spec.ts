import { describe, expect, it } from '@jest/globals';
import { countMatrixResults } from './matrix-results.js';

describe('countMatrixResults', () => {
  it('counts cases by the last line', () => {
    expect(countMatrixResults('seed 1\n\nlost 0, duplicated 0, leaked 0, stuck 0 of 70 cases\n')).toEqual({
      passed: 70,
      failed: 0,
      skips: [],
      problems: [],
    });
  });

  it('counts a bad case as failed, and no more than there are', () => {
    expect(countMatrixResults('lost 1, duplicated 0, leaked 2, stuck 0 of 70 cases\n')).toMatchObject({
      passed: 67,
      failed: 3,
    });
    expect(countMatrixResults('lost 2, duplicated 2, leaked 2, stuck 2 of 3 cases\n')).toMatchObject({
      passed: 0,
      failed: 3,
    });
  });

  it('knows that a run which ended before its last line has no result', () => {
    expect(
      countMatrixResults('1/5 api killed: lost 0, duplicated 0, leaked 0, stuck 0 of 14 cases (s: 1)\n'),
    ).toBeUndefined();
  });
});
