import { describe, expect, it } from '@jest/globals';
import { nextSteps } from './next-steps.js';

const LOST = {
  operationId: null,
  step: 'reconcile',
  code: 'memory_lost',
  message: 'gone',
  suggestion: 'decide',
  at: '',
} as const;
const sandbox = { id: 'sbx1', hostId: 'h1', state: 'error', failure: LOST, startedAt: new Date(0) } as const;

describe('what can be done next', () => {
  it('is nothing where nothing is wrong', () => {
    expect(nextSteps({ ...sandbox, state: 'running' }, undefined)).toBeNull();
    expect(nextSteps({ ...sandbox, state: 'paused' }, undefined)).toBeNull();
  });

  it('is to boot it from its disk where its memory is lost', () => {
    expect(nextSteps(sandbox, undefined)).toBe(
      'boot it from its disk: torpor sandbox recover sbx1; or give it up: torpor sandbox rm sbx1',
    );
  });

  it('is what the failure suggests first, where something else went wrong', () => {
    const failure = { ...LOST, code: 'disk_full', suggestion: 'free space on the host' } as const;
    expect(nextSteps({ ...sandbox, failure }, undefined)).toMatch(/^free space on the host; then boot it/);
  });

  it('is not to boot what never ran', () => {
    expect(nextSteps({ ...sandbox, startedAt: null }, undefined)).toBe(
      'create another one; remove this one: torpor sandbox rm sbx1',
    );
  });

  it('is to wait for its host, or for the recovery that looks after it', () => {
    const missing = { ...sandbox, state: 'missing', failure: null } as const;
    expect(nextSteps(missing, undefined)).toContain('host h1 is back');
    expect(nextSteps(missing, 'recover')).toContain('wait');
  });
});
