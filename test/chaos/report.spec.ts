import { describe, expect, it } from '@jest/globals';
import { Case } from './case.js';
import { leaked, lost, stuck } from './checks/violation.js';
import { lastLine, median, tableOf } from './report.js';

describe('report', () => {
  const good = new Case({ operation: 'pause', process: 'api' }, 'k-1');
  const bad = new Case({ operation: 'pause', process: 'host-worker' }, 'k-2');
  good.recoveryMs = 1_500;
  bad.blame(lost('a'), lost('b'), leaked('c'));

  it('counts cases, not what was wrong with them', () => {
    expect(lastLine([good, bad])).toBe('lost 1, duplicated 0, leaked 1, stuck 0 of 2 cases');
    expect(lastLine([good])).toBe('lost 0, duplicated 0, leaked 0, stuck 0 of 1 cases');
  });

  it('has a row per operation and process', () => {
    bad.blame(stuck('d'));
    const rows = tableOf([good, bad]).split('\n');
    expect(rows.map((row) => row.split(/\s+/).slice(0, 7).join(' '))).toEqual([
      'operation process cases lost duplicated leaked stuck',
      'pause api 1 0 0 0 0',
      'pause host-worker 1 1 0 1 1',
      'all api 1 0 0 0 0',
      'all host-worker 1 1 0 1 1',
    ]);
    expect(rows[1]).toMatch(/1\.5 {2,}1\.5$/);
  });

  it('knows the middle', () => {
    expect([median([]), median([3]), median([1, 2, 10]), median([1, 2, 4, 10])]).toEqual([undefined, 3, 2, 3]);
  });
});
