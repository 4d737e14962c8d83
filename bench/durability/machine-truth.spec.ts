import { describe, expect, it } from '@jest/globals';
import { doneTwice, excess, NOTHING, total } from './machine-truth.js';

const RUNNING = { vmms: 1, namespaces: 1, overlays: 1, memories: 0 };
const PAUSED = { ...NOTHING, overlays: 1, memories: 1 };

describe('excess', () => {
  it('is nothing for what is as it is said to be', () => {
    expect(total(excess(RUNNING, 'running'))).toBe(0);
    expect(total(excess(PAUSED, 'paused'))).toBe(0);
    expect(total(excess(NOTHING, 'unknown'))).toBe(0);
  });

  it('is everything that a forgotten sandbox has', () => {
    expect(excess(RUNNING, 'unknown')).toEqual(RUNNING);
    expect(excess(PAUSED, 'error')).toEqual(PAUSED);
  });

  it('is what a paused sandbox should have given back, and an old memory of one that runs', () => {
    expect(excess({ ...PAUSED, vmms: 1, namespaces: 1 }, 'paused')).toEqual({ ...NOTHING, vmms: 1, namespaces: 1 });
    expect(excess({ ...RUNNING, memories: 2 }, 'running')).toEqual({ ...NOTHING, memories: 2 });
  });

  it('does not count what is on its way', () => {
    expect(total(excess({ ...RUNNING, memories: 3 }, 'busy'))).toBe(0);
    expect(total(excess({ ...RUNNING, vmms: 2 }, 'busy'))).toBe(1);
  });
});

describe('doneTwice', () => {
  const requestOf = (id: string) => id.slice(0, 1);

  it('names requests of which more than one VMM lives', () => {
    const found = [
      { id: 'a1', has: RUNNING },
      { id: 'a2', has: RUNNING },
      { id: 'b1', has: RUNNING },
      { id: 'b2', has: PAUSED },
    ];
    expect(doneTwice(found, requestOf)).toEqual(['a has 2 VMMs']);
  });
});
