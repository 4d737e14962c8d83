import { describe, expect, it } from '@jest/globals';
import type { SandboxState } from '../../workflows/contract/states.js';
import type { Holding } from '../host/contract.js';
import { compare, type Comparison, type HostSituation } from './compare.js';
import type { SurveyRow } from './survey-ports.js';

const ROW: SurveyRow = {
  id: 's',
  epoch: 5,
  state: 'running',
  open: false,
  unfinished: false,
  teamId: 'team',
  templateId: 'minimal',
  hostId: 'h',
  generation: 3,
  timeoutSeconds: 0,
  expiresAt: null,
};
const HELD: Holding = { id: 's', vm: 'running', disk: true, network: true, snapshots: [], epoch: 5 };
const HOST: HostSituation = { online: true, watched: true, overlooked: 0, silentSince: '2030-01-01T00:00:00.000Z' };

function look(changes: Partial<Comparison> = {}): Comparison {
  const now = changes.now ?? [ROW];
  const none = new Set<string>();
  const asked = { verdicts: new Map(), tidying: none, runLost: none, buildsLost: none, unkept: none, host: HOST };
  return { hostId: 'h', before: now, now, holdings: [HELD], ...asked, ...changes };
}

const row = (changes: Partial<SurveyRow>): SurveyRow => ({ ...ROW, ...changes });
const held = (changes: Partial<Holding>): Holding => ({ ...HELD, ...changes });
const kinds = (comparison: Comparison): string[] => compare(comparison).map(({ kind }) => kind);

describe('a comparison finds nothing', () => {
  it('where rows and host agree', () => {
    expect(compare(look())).toEqual([]);
    expect(compare(look({ now: [], holdings: [] }))).toEqual([]);
    expect(
      compare(look({ now: [row({ state: 'paused' })], holdings: [held({ vm: 'absent', snapshots: [3] })] })),
    ).toEqual([]);
  });

  it.each(['starting', 'pausing', 'resuming', 'stopping', 'missing', 'running', 'paused'] as const)(
    'about the machine of a sandbox that an operation is at work on: %s',
    (state) => {
      for (const vm of ['absent', 'frozen', 'running'] as const) {
        expect(compare(look({ now: [row({ state, open: true })], holdings: [held({ vm, epoch: 9 })] }))).toEqual([]);
      }
    },
  );

  it.each(['error', 'starting', 'stopping'] as const)('about the machine of a sandbox that is %s', (state) => {
    expect(compare(look({ now: [row({ state })], holdings: [] }))).toEqual([]);
  });

  it.each([
    ['had another epoch before', { epoch: 4 }],
    ['was worked on before', { open: true }],
    ['was in another state before', { state: 'missing' as SandboxState }],
  ])('about a sandbox that %s', (_, then) => {
    const before = [{ ...ROW, ...then }];
    expect(compare(look({ before, holdings: [held({ vm: 'absent', epoch: 9 })] }))).toEqual([]);
  });

  it('about a sandbox that was made while the host was asked', () => {
    expect(compare(look({ before: [], holdings: [] }))).toEqual([]);
  });

  it('left over from a sandbox that ended or moved while the host was asked', () => {
    const verdicts = new Map([['s', 'ended']] as const);
    expect(compare(look({ before: [ROW], now: [], verdicts }))).toEqual([]);
  });

  it('left over from what lives there, or from a build whose run still tidies up', () => {
    expect(compare(look({ now: [], verdicts: new Map([['s', 'live']]) }))).toEqual([]);
    expect(compare(look({ now: [], verdicts: new Map([['s', 'ended']]), tidying: new Set(['s']) }))).toEqual([]);
  });

  it('about machines of a host that is silent and could not be asked', () => {
    expect(compare(look({ holdings: null, host: { ...HOST, online: false } }))).toEqual([]);
  });

  it('about hosts where there is none', () => {
    expect(compare(look({ hostId: null, host: null, now: [row({ hostId: null })], holdings: null }))).toEqual([]);
  });
});

describe('a comparison finds', () => {
  it.each([
    ['vm_lost', 'running', { vm: 'absent' }],
    ['vm_frozen', 'running', { vm: 'frozen' }],
    ['found', 'missing', { vm: 'running' }],
    ['unresolved', 'missing', { vm: 'frozen' }],
    ['unresolved', 'missing', { vm: 'absent' }],
    ['snapshot_lost', 'paused', { vm: 'absent' }],
  ] as const)('%s of one that is %s', (kind, state, changes) => {
    const [found, ...more] = compare(
      look({ now: [row({ state })], holdings: [held({ ...changes, snapshots: [2, 4] })] }),
    );
    expect(more).toEqual([]);
    expect(found).toMatchObject({ kind, hostId: 'h', sandboxId: 's', epoch: 5, before: { state, vm: changes.vm } });
  });

  it('vm_lost of one of which the host holds nothing', () => {
    expect(kinds(look({ holdings: [] }))).toEqual(['vm_lost']);
  });

  it('unresolved, and not found, of one that an operation left half done', () => {
    expect(kinds(look({ now: [row({ state: 'missing', unfinished: true })] }))).toEqual(['unresolved']);
  });

  it('run_lost, and nothing of the machine in the middle of it', () => {
    const now = [row({ state: 'pausing', open: true })];
    expect(kinds(look({ now, runLost: new Set(['s']), holdings: [held({ vm: 'frozen' })] }))).toEqual(['run_lost']);
    expect(kinds(look({ now, runLost: new Set(['s']), holdings: null }))).toEqual(['host_unasked', 'run_lost']);
  });

  it('epoch_behind before whatever else is wrong', () => {
    expect(kinds(look({ holdings: [held({ epoch: 8 })] }))).toEqual(['epoch_behind']);
    expect(kinds(look({ holdings: [held({ epoch: 8, vm: 'absent' })] }))).toEqual(['epoch_behind', 'vm_lost']);
    const now = [row({ open: true, state: 'resuming' })];
    const lost = { now, runLost: new Set(['s']) };
    expect(kinds(look({ ...lost, holdings: [held({ epoch: 8, vm: 'absent' })] }))).toEqual([
      'epoch_behind',
      'run_lost',
    ]);
    const stopping = { now: [row({ open: true, state: 'stopping' })], runLost: new Set(['s']) };
    expect(kinds(look({ ...stopping, holdings: [held({ epoch: 8 })] }))).toEqual(['epoch_behind', 'run_lost']);
    expect(kinds(look({ holdings: [held({ epoch: 4 })] }))).toEqual([]);
    expect(kinds(look({ holdings: [held({ epoch: null })] }))).toEqual([]);
  });

  it.each([
    ['paused', { vm: 'running' }, { state: 'running', generation: 3 }, []],
    ['paused', { vm: 'absent', snapshots: [5, 8] }, { state: 'paused', generation: 8 }, []],
    ['running', { vm: 'absent', snapshots: [8] }, { state: 'paused', generation: 8 }, []],
    ['running', { vm: 'frozen', snapshots: [] }, { state: 'running', generation: 3 }, ['vm_frozen']],
    ['missing', { vm: 'running' }, { state: 'running', generation: 3 }, []],
    ['error', { vm: 'running' }, { state: 'running', generation: 3 }, []],
  ] as const)('of a row older than its host only what the host shows: %s, %j', (state, changes, shown, others) => {
    const snapshots = 'snapshots' in changes ? [...changes.snapshots] : [];
    const holdings = [held({ vm: changes.vm, snapshots, epoch: 9 })];
    const [first, ...more] = compare(look({ now: [row({ state })], holdings, unkept: new Set(['s']) }));
    expect(first).toMatchObject({ kind: 'epoch_behind', before: { shown } });
    expect(more.map(({ kind }) => kind)).toEqual(others);
    const lost = { now: [row({ state: 'pausing', open: true })], runLost: new Set(['s']), holdings };
    expect(kinds(look(lost))).toEqual(['epoch_behind', ...others]);
  });

  it.each(['paused', 'error'] as const)('vm_unexpected where a sandbox that is %s has one', (state) => {
    const now = [row({ state })];
    expect(kinds(look({ now, holdings: [held({ vm: 'frozen', snapshots: [3] })] }))).toEqual(['vm_unexpected']);
    expect(kinds(look({ now, holdings: [held({ vm: 'absent', snapshots: [3] })] }))).toEqual([]);
  });

  it('build_lost of a build that nobody carries on', () => {
    expect(compare(look({ buildsLost: new Set(['b']) }))).toMatchObject([
      { kind: 'build_lost', hostId: 'h', sandboxId: 'b', epoch: null },
    ]);
  });

  it('keeper_missing, unless what mends its machine starts the keeper too', () => {
    const unkept = new Set(['s']);
    expect(kinds(look({ unkept }))).toEqual(['keeper_missing']);
    expect(kinds(look({ unkept, holdings: null }))).toEqual(['host_unasked', 'keeper_missing']);
    expect(kinds(look({ unkept, holdings: [] }))).toEqual(['vm_lost']);
  });

  it('orphan and unknown of what has no row', () => {
    const holdings = [held({ id: 'gone' }), held({ id: 'who', vm: 'absent' }), HELD];
    const verdicts = new Map([
      ['gone', 'ended'],
      ['who', 'unknown'],
    ] as const);
    const found = compare(look({ holdings, verdicts }));
    expect(found).toEqual([
      expect.objectContaining({ kind: 'orphan', hostId: 'h', sandboxId: 'gone', epoch: null }),
      expect.objectContaining({ kind: 'unknown', hostId: 'h', sandboxId: 'who', epoch: null }),
    ]);
  });

  it('what is wrong with the host itself', () => {
    expect(kinds(look({ holdings: null }))).toEqual(['host_unasked']);
    expect(kinds(look({ host: { ...HOST, watched: false } }))).toEqual(['watch_missing']);
    const silent = { ...HOST, online: false, overlooked: 2 };
    expect(compare(look({ holdings: null, host: silent }))).toEqual([
      {
        kind: 'host_silent',
        hostId: 'h',
        sandboxId: null,
        epoch: null,
        before: { silent_since: HOST.silentSince, sandboxes: 2 },
      },
    ]);
  });
});
