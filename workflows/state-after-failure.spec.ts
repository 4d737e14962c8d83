import { describe, expect, it } from '@jest/globals';
import type { ErrorCode } from './contract/errors.js';
import type { OperationKind, SandboxState } from './contract/states.js';
import { stateAfterFailure, type FailedEnd } from './state-after-failure.js';

function ends(kind: OperationKind, end: Partial<FailedEnd> = {}): SandboxState | null {
  const failure = { step: 'startVm', code: 'command_failed', message: '' } as const;
  return stateAfterFailure({ kind, committed: false, cancelled: false, failure, left: [], ...end });
}
const left = (...codes: ErrorCode[]) => codes.map((code) => ({ undo: 'vm', code, message: '' }));
const away = { step: 'inspectSandbox', code: 'host_unavailable', message: '' } as const;

describe('stateAfterFailure', () => {
  it('is what the table says where everything was undone', () => {
    const kinds: OperationKind[] = ['create', 'pause', 'resume', 'recover'];
    expect(kinds.map((kind) => ends(kind))).toEqual(['error', 'running', 'paused', 'error']);
  });

  it('is missing where the host was away for an undo, or the VM is gone', () => {
    for (const kind of ['pause', 'resume', 'recover'] as const) {
      expect(ends(kind, { left: left('host_unavailable', 'memory_lost') })).toBe('missing');
      expect(ends(kind, { left: left('host_unavailable', 'command_failed') })).toBe('error');
    }
    expect(ends('create', { left: left('host_unavailable') })).toBe('error');
  });

  it('is missing where a recovery got no answer', () => {
    expect(ends('recover', { failure: away })).toBe('missing');
    expect(ends('recover', { cancelled: true })).toBe('missing');
    expect(ends('resume', { failure: away })).toBe('paused');
  });

  it('is what it was where only its network policy was to change, and missing where its host is away', () => {
    expect(ends('network')).toBeNull();
    expect(ends('network', { left: left('command_failed') })).toBeNull();
    expect(ends('network', { left: left('host_unavailable') })).toBe('missing');
    expect(ends('network', { committed: true, cancelled: true })).toBeNull();
  });

  it('is left to the destroy that takes over behind a commit point', () => {
    expect(ends('pause', { committed: true, cancelled: true })).toBe('missing');
    expect(ends('destroy', { committed: true })).toBe('stopping');
  });
});
