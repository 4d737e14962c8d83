import { ApplicationFailure } from '@temporalio/workflow';
import type { Claim } from '../activities/control/contract.js';

/** The host that holds the sandbox; pausing or resuming one that never reached a host cannot be asked for. */
export function hostOf(claim: Claim, { sandboxId }: { sandboxId: string }): string {
  if (claim.hostId !== null) return claim.hostId;
  throw ApplicationFailure.create({
    type: 'internal_error',
    message: `sandbox ${sandboxId} is on no host`,
    nonRetryable: true,
  });
}
