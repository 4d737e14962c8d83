import { describe, expect, it } from '@jest/globals';
import { withStandingClock } from './saved-clock.js';

/** As the VMM writes it: the state of each part is text within the text. */
function state(flags: number): string {
  const clock = [1, 2, 3, 4, 5, 6, 7, 8, flags, 0, 0, 0, 0, 0, 0, 0, 24, 25];
  const vm = JSON.stringify({ msrs: [{ data: 1 }], clock: { Kvm: clock } }).replace(
    '"data":1',
    '"data":18446744073709551615',
  );
  return JSON.stringify({ snapshots: {}, snapshot_data: { state: vm } });
}

describe('withStandingClock', () => {
  it('takes the wish to catch up from the clock, and leaves all else as it is', () => {
    expect(withStandingClock(state(14))).toBe(state(10));
    expect(withStandingClock(state(2))).toBe(state(2));
    expect(withStandingClock(state(14))).toContain('18446744073709551615');
  });

  it('knows a state that has no such clock', () => {
    expect(withStandingClock(JSON.stringify({ snapshot_data: { state: '{"clock":null}' } }))).toBeUndefined();
  });
});
