import { describe, expect, it } from '@jest/globals';
import {
  canMove,
  mayBegin,
  OPERATIONS,
  OPERATION_KINDS,
  SANDBOX_STATES,
  TRANSITIONS,
  type OperationKind,
  type SandboxState,
} from './states.js';

/** The table once more, as the design draws it; a change must be made in both places. */
const DRAWN: [SandboxState, SandboxState][] = [
  ['starting', 'running'],
  ['running', 'pausing'],
  ['pausing', 'paused'],
  ['pausing', 'running'],
  ['paused', 'resuming'],
  ['resuming', 'running'],
  ['resuming', 'paused'],
  ['running', 'missing'],
  ['pausing', 'missing'],
  ['resuming', 'missing'],
  // A recovery takes over what nobody speaks for any more; a paused one only when its memory is given up.
  ['starting', 'missing'],
  ['paused', 'missing'],
  ['error', 'missing'],
  ['missing', 'running'],
  ['missing', 'paused'],
  ['stopping', 'stopped'],
];
const LIVE = SANDBOX_STATES.filter((state) => state !== 'stopped');

function isDrawn(from: SandboxState, to: SandboxState): boolean {
  if (from === 'stopped' || from === to) return false;
  if (to === 'stopping' || to === 'error') return true;
  return DRAWN.some(([a, b]) => a === from && b === to);
}

describe('the transition table', () => {
  const pairs = SANDBOX_STATES.flatMap((from) => SANDBOX_STATES.map((to) => [from, to] as const));

  it.each(pairs)('%s -> %s', (from, to) => {
    expect(canMove(from, to)).toBe(isDrawn(from, to));
  });

  it('lets every state but stopped be destroyed, and reach stopped', () => {
    for (const state of LIVE) expect(state === 'stopping' || TRANSITIONS[state].includes('stopping')).toBe(true);
  });
});

/** Operations that move a sandbox; a change of its network leaves it where it is. */
const MOVING = OPERATION_KINDS.filter((kind): kind is Exclude<OperationKind, 'network'> => kind !== 'network');

describe('the operations', () => {
  it.each(MOVING.filter((kind) => kind !== 'create'))('%s only asks for legal moves', (kind) => {
    const { from, during, success, undone } = OPERATIONS[kind];
    for (const state of from) expect(state === during || canMove(state, during)).toBe(true);
    expect(canMove(during, success)).toBe(true);
    expect(canMove(during, undone)).toBe(true);
  });

  it('a change of the network takes what runs or is paused, and moves nothing', () => {
    expect(SANDBOX_STATES.filter((state) => mayBegin('network', state))).toEqual(['running', 'paused']);
    expect(OPERATIONS.network).toMatchObject({ during: null, success: null, undone: null });
  });

  it.each(OPERATION_KINDS)('%s may begin in the states that the table names, and in no other', (kind) => {
    const may = SANDBOX_STATES.filter((state) => mayBegin(kind, state));
    expect([...may].sort()).toEqual([...OPERATIONS[kind].from].sort());
  });

  it('create begins with a state that nothing leads to', () => {
    expect(SANDBOX_STATES.filter((state) => canMove(state, 'starting'))).toEqual([]);
  });

  it('destroy takes whatever is not stopped', () => {
    expect([...OPERATIONS.destroy.from].sort()).toEqual([...LIVE].sort());
  });
});
