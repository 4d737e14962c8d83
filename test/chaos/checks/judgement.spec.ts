import { describe, expect, it } from '@jest/globals';
import { NOTHING, type Possessions } from './host-view.js';
import { judgeAnswer, judgeEnd, judgePossessions, type Expectation } from './judgement.js';

const machine: Possessions = {
  ...NOTHING,
  vmms: [7],
  namespaces: ['sbx-a'],
  taps: ['tap0'],
  addresses: ['10.96.0.2'],
  overlays: ['sandboxes/a/disk.qcow2'],
};
const asleep: Possessions = { ...NOTHING, overlays: machine.overlays, snapshots: [2] };

const kinds = (state: string, has: Possessions) => judgePossessions(state, has).map(({ kind }) => kind);

describe('what a sandbox has', () => {
  it('is right for each state that may last', () => {
    for (const [state, has] of [
      ['running', machine],
      ['paused', asleep],
      ['stopped', NOTHING],
      ['error', NOTHING],
      ['failed', NOTHING],
      ['ready', { ...NOTHING, files: ['templates/a/disk'] }],
    ] satisfies [string, Possessions][]) {
      expect(judgePossessions(state, has)).toEqual([]);
    }
  });

  it.each(['vmms', 'namespaces', 'taps', 'addresses', 'overlays'] as const)('of a running one: %s', (part) => {
    expect(kinds('running', { ...machine, [part]: [] })).toEqual(['lost']);
    expect(kinds('running', { ...machine, [part]: [1, 2] })).toEqual(['duplicated']);
  });

  it.each(['vmms', 'namespaces', 'taps', 'addresses'] as const)('of a paused or ended one: %s', (part) => {
    expect(kinds('paused', { ...asleep, [part]: [1] })).toEqual(['leaked']);
    expect(kinds('stopped', { ...NOTHING, [part]: [1] })).toEqual(['leaked']);
  });

  it('a disk that is a device is one device, and none while nothing runs', () => {
    expect(kinds('running', { ...machine, devices: ['torpor-a'] })).toEqual([]);
    expect(kinds('running', { ...machine, devices: ['torpor-a', 'torpor-a-2'] })).toEqual(['duplicated']);
    expect(kinds('paused', { ...asleep, devices: ['torpor-a'] })).toEqual(['leaked']);
  });

  it('a paused one has its disk and one memory, others have no memory', () => {
    expect(kinds('paused', { ...asleep, overlays: [] })).toEqual(['lost']);
    expect(kinds('paused', { ...asleep, snapshots: [] })).toEqual(['lost']);
    expect(kinds('paused', { ...asleep, snapshots: [2, 4] })).toEqual(['duplicated']);
    expect(kinds('running', { ...machine, snapshots: [2] })).toEqual(['leaked']);
    expect(kinds('stopped', { ...NOTHING, files: ['sandboxes/a/console.log'] })).toEqual(['leaked']);
  });

  it('a state of transition does not last', () => {
    for (const state of ['starting', 'pausing', 'resuming', 'stopping', 'missing']) {
      expect(kinds(state, machine)).toEqual(['stuck']);
    }
  });
});

describe('how an operation ends', () => {
  const expected: Expectation = { success: 'paused', undone: 'running', committed: false };
  const row = (state: string, more: object = {}) => ({ id: 'op', state, failure: null, ...more });
  const end = (state: string, rows: Parameters<typeof judgeEnd>[1], more: Partial<Expectation> = {}) =>
    judgeEnd(state, rows, { ...expected, ...more }).map(({ kind }) => kind);

  it('well, or as if it had never been', () => {
    expect(end('paused', [row('succeeded')])).toEqual([]);
    expect(end('running', [row('failed')])).toEqual([]);
  });

  it('not without a record, and not twice', () => {
    expect(end('running', [])).toEqual(['lost']);
    expect(end('paused', [row('succeeded'), row('succeeded')])).toEqual(['duplicated']);
  });

  it('in the state that it says', () => {
    expect(end('running', [row('succeeded')])).toEqual(['lost']);
    expect(end('paused', [row('failed')])).toEqual(['lost']);
  });

  it('not behind its commit point', () => {
    expect(end('running', [row('failed')], { committed: true })).toEqual(['lost']);
    expect(end('error', [row('failed')], { undone: null })).toEqual(['lost']);
  });

  it('with everything undone', () => {
    const failure = { code: 'timeout', step: 'killVm', message: 'no', needsAttention: ['vm: busy'] };
    expect(end('running', [row('failed', { failure })])).toEqual(['leaked']);
    expect(end('pausing', [row('running')])).toEqual(['stuck']);
  });
});

describe('what its caller was told', () => {
  const told = (status: number, code: string | undefined, state: string) =>
    judgeAnswer({ status, code }, { state }).map(({ kind }) => kind);

  it('is what became of the request', () => {
    expect(told(200, undefined, 'succeeded')).toEqual([]);
    expect(told(201, undefined, 'ready')).toEqual([]);
    expect(told(500, 'command_failed', 'failed')).toEqual([]);
    expect(told(202, undefined, 'failed')).toEqual([]);
  });

  it('is no refusal by its own operation, and no success of one that failed', () => {
    expect(told(409, 'operation_in_progress', 'succeeded')).toEqual(['lost']);
    expect(told(200, undefined, 'failed')).toEqual(['lost']);
    expect(judgeAnswer(undefined, { state: 'succeeded' }).map(({ kind }) => kind)).toEqual(['stuck']);
  });
});
