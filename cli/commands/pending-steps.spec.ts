import { describe, expect, it } from '@jest/globals';
import type { Operation } from '../rest-types.js';
import { pendingRows } from './pending-steps.js';

type Progress = NonNullable<Operation['progress']>;

function open(progress: Partial<Progress> | null): Operation {
  return {
    id: 'op1',
    kind: 'pause',
    sandbox_id: 's1',
    state: 'running',
    step: 'killVm',
    host_id: 'h1',
    run_id: 'run1',
    temporal_url: null,
    started_at: '2026-01-01T00:00:00Z',
    finished_at: null,
    duration_ms: null,
    retry_of: null,
    failure: null,
    progress:
      progress === null ? null : { stage: 'killVm', undoing: false, committed: false, pending: [], ...progress },
  };
}

describe('pendingRows', () => {
  it('has nothing to say of an operation that has ended, or of a step that simply takes a while', () => {
    expect(pendingRows(open(null))).toEqual([]);
    const pending = [{ activity: 'killVm', attempt: 1, last_failure: null }];
    expect(pendingRows(open({ pending }))).toEqual([['pending', 'killVm, first attempt']]);
  });

  it('names cause, host and lever of a step behind the commit point', () => {
    const pending = [{ activity: 'detachDisk', attempt: 7, last_failure: 'device busy' }];
    const [row, advice] = pendingRows(open({ pending, committed: true }));
    expect(row).toEqual(['pending', 'detachDisk, attempt 7: device busy']);
    expect(advice?.[1]).toMatch(/on host h1; it cannot turn back and goes on by itself/);
    expect(advice?.[1]).toContain('temporal activity reset --workflow-id sandbox/s1 --activity-id detachDisk');
  });

  it('tells an undo from a step that goes forward, and a step that will be turned back from both', () => {
    const undo = pendingRows(
      open({ undoing: true, pending: [{ activity: 'unfreezeVm', attempt: 2, last_failure: 'x' }] }),
    );
    expect(undo[1]?.[1]).toMatch(/undone by itself .* --activity-id unfreezeVm$/);
    const step = pendingRows(open({ pending: [{ activity: 'killVm', attempt: 2, last_failure: 'x' }] }));
    expect(step[1]?.[1]).toMatch(/^nothing yet/);
  });
});
