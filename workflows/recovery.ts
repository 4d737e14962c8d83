import type { RecoverClaim } from '../activities/control/contract.js';
import type { Inspection } from '../activities/host/contract.js';
import type { RecoverSandboxInput } from './contract/operations.js';

/** What a recovery does with a sandbox, decided from what the row and the host say of it. */
export type Recovery =
  /** Its create was ended from outside: nobody was ever given it, so it is taken down. */
  | { way: 'take down' }
  /** Its disk is not on the host: there is nothing to go on from. */
  | { way: 'disk lost' }
  /** Its pause had passed the commit point: the rest of it is done. */
  | { way: 'finish pause' }
  /** Its resume was ended from outside: what that set up is taken down, and the paused state is as it was. */
  | { way: 'back to paused' }
  /** Its VM lives: it goes on where it stands. */
  | { way: 'go on' }
  /** Its memory is gone. `disk`: what of it counts. */
  | { way: 'boot'; disk: 'keep' | 'rollback'; reason: string }
  /** Its memory is gone, and nobody said that it may be booted. */
  | { way: 'memory lost'; reason: string };

export function recoveryOf(claim: RecoverClaim, found: Inspection, input: RecoverSandboxInput): Recovery {
  const { interrupted, was, generation } = claim;
  if (interrupted?.kind === 'create') return { way: 'take down' };
  if (!found.disk) return { way: 'disk lost' };
  if (interrupted?.kind === 'pause' && interrupted.epoch === generation && found.snapshot) {
    return { way: 'finish pause' };
  }
  if (interrupted?.kind === 'resume') {
    if (found.snapshot) return { way: 'back to paused' };
    // What a resume that was not committed let the guest write belongs to a memory that nobody has.
    return withoutMemory(claim, input, 'rollback', `memory snapshot ${generation}, which it was resumed from, is gone`);
  }
  if (was === 'paused') return { way: 'boot', disk: 'keep', reason: 'its saved memory was given up on request' };
  if (found.vm !== 'absent') return { way: 'go on' };
  if (was === 'error') return { way: 'boot', disk: 'keep', reason: 'it was in error and its VM was gone' };
  return withoutMemory(claim, input, 'keep', 'its VM was gone when the host was asked');
}

function withoutMemory(
  { onMemoryLoss }: RecoverClaim,
  { boot }: RecoverSandboxInput,
  disk: 'keep' | 'rollback',
  reason: string,
): Recovery {
  return boot || onMemoryLoss === 'reboot' ? { way: 'boot', disk, reason } : { way: 'memory lost', reason };
}
