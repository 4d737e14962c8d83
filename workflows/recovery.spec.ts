import { describe, expect, it } from '@jest/globals';
import type { RecoverClaim } from '../activities/control/contract.js';
import type { Inspection } from '../activities/host/contract.js';
import type { RecoverSandboxInput } from './contract/operations.js';
import { recoveryOf } from './recovery.js';

const CLAIM: RecoverClaim = {
  ...{ epoch: 9, hostId: 'h', vcpus: 1, memoryMb: 256, egress: true, generation: 4 },
  ...{ was: 'missing', interrupted: null, onMemoryLoss: 'reboot' },
};
const INPUT: RecoverSandboxInput = {
  ...{ opId: 'o', sandboxId: 's', teamId: 't' },
  ...{ reason: 'requested', boot: false, discardMemory: false },
};
const ALIVE: Inspection = { vm: 'running', disk: true, snapshot: false };
const GONE: Inspection = { vm: 'absent', disk: true, snapshot: false };

const wayOf = (claim: Partial<RecoverClaim>, found: Inspection, input: Partial<RecoverSandboxInput> = {}) =>
  recoveryOf({ ...CLAIM, ...claim }, found, { ...INPUT, ...input });

describe('recoveryOf', () => {
  it('lets a VM that lives go on, running or frozen, also after a pause that was not recorded', () => {
    expect(wayOf({}, ALIVE)).toEqual({ way: 'go on' });
    expect(wayOf({}, { ...ALIVE, vm: 'frozen' })).toEqual({ way: 'go on' });
    expect(wayOf({ interrupted: { kind: 'pause', epoch: 8 } }, ALIVE)).toEqual({ way: 'go on' });
  });

  it('boots what lost its memory if its policy or a person says so, and waits otherwise', () => {
    expect(wayOf({}, GONE)).toMatchObject({ way: 'boot', disk: 'keep' });
    expect(wayOf({ onMemoryLoss: 'error' }, GONE)).toMatchObject({ way: 'memory lost' });
    expect(wayOf({ onMemoryLoss: 'error' }, GONE, { boot: true })).toMatchObject({ way: 'boot', disk: 'keep' });
  });

  it('finishes a pause that was recorded, unless what was recorded is gone', () => {
    const interrupted = { kind: 'pause', epoch: 4 } as const;
    expect(wayOf({ interrupted }, { ...ALIVE, vm: 'frozen', snapshot: true })).toEqual({ way: 'finish pause' });
    expect(wayOf({ interrupted }, { ...GONE, snapshot: true })).toEqual({ way: 'finish pause' });
    expect(wayOf({ interrupted }, ALIVE)).toEqual({ way: 'go on' });
    expect(wayOf({ interrupted }, GONE)).toMatchObject({ way: 'boot', disk: 'keep' });
  });

  it('takes a resume back to its paused state whatever the VM does', () => {
    const interrupted = { kind: 'resume', epoch: 8 } as const;
    expect(wayOf({ interrupted }, { ...ALIVE, snapshot: true })).toEqual({ way: 'back to paused' });
    expect(wayOf({ interrupted }, { ...GONE, snapshot: true })).toEqual({ way: 'back to paused' });
    expect(wayOf({ interrupted }, ALIVE)).toMatchObject({ way: 'boot', disk: 'rollback' });
    expect(wayOf({ interrupted, onMemoryLoss: 'error' }, GONE)).toMatchObject({ way: 'memory lost' });
  });

  it('boots what was paused, or in error without a VM, since only a person asks for that', () => {
    expect(wayOf({ was: 'paused', onMemoryLoss: 'error' }, { ...GONE, snapshot: true })).toMatchObject({ way: 'boot' });
    expect(wayOf({ was: 'error', onMemoryLoss: 'error' }, GONE)).toMatchObject({ way: 'boot', disk: 'keep' });
    expect(wayOf({ was: 'error', onMemoryLoss: 'error' }, ALIVE)).toEqual({ way: 'go on' });
  });

  it('takes down what was never given to anybody, and says that nothing is left without a disk', () => {
    expect(wayOf({ was: 'starting', interrupted: { kind: 'create', epoch: 1 } }, ALIVE)).toEqual({ way: 'take down' });
    expect(wayOf({}, { ...ALIVE, disk: false })).toEqual({ way: 'disk lost' });
    expect(wayOf({ was: 'paused' }, { ...GONE, disk: false, snapshot: true })).toEqual({ way: 'disk lost' });
  });
});
