import {
  condition,
  continueAsNew,
  defineSignal,
  log,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { control, waiting } from './control-steps.js';
import { REARM_SIGNAL, type SandboxTtlInput } from './contract/operations.js';
import type { SandboxState } from './contract/states.js';

const rearmSignal = defineSignal(REARM_SIGNAL);
const RETRY_INITIAL_MS = 30_000;
const RETRY_MAX_FACTOR = 20;

/**
 * Keeps the timeout of one running sandbox. Activity only moves the deadline in the
 * row; the keeper wakes when the deadline it knew has come and reads the row again.
 * A timeout that cannot be carried out leaves the sandbox running and is tried again.
 */
export async function SandboxTtl(input: SandboxTtlInput): Promise<void> {
  let rearmed = false;
  setHandler(rearmSignal, () => {
    rearmed = true;
  });
  const retryMs = input.retryInitialMs ?? RETRY_INITIAL_MS;
  let failures = 0;
  for (;;) {
    rearmed = false;
    const deadline = await control.readDeadline({ sandboxId: input.sandboxId });
    if (deadline.expiresAt === null || !isTimed(deadline.state)) return;
    const remaining = deadline.expiresAt - Date.now();
    if (deadline.state !== 'running') {
      setCurrentDetails(`waits while the sandbox is ${deadline.state}`);
      await condition(() => rearmed, retryMs);
    } else if (remaining > 0) {
      setCurrentDetails(`${deadline.onTimeout} at ${new Date(deadline.expiresAt).toISOString()} unless it is used`);
      await condition(() => rearmed, remaining);
    } else {
      const outcome = await waiting.expire({ sandboxId: input.sandboxId, onTimeout: deadline.onTimeout });
      if (outcome.done) return;
      const delay = Math.min(retryMs * 2 ** failures, retryMs * RETRY_MAX_FACTOR);
      failures += 1;
      log.warn('timeout could not be carried out', { message: outcome.message, delay });
      setCurrentDetails(`${deadline.onTimeout} failed (${outcome.message}); tried again in ${delay / 1000} s`);
      await control.noteExpiryFailure({
        sandboxId: input.sandboxId,
        message: outcome.message,
        retryAt: Date.now() + delay,
      });
      await condition(() => rearmed, delay);
    }
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof SandboxTtl>(input);
  }
}

/** States that may lead back to running without a new keeper; from all others the next resume starts one. */
function isTimed(state: SandboxState | null): state is SandboxState {
  return state === 'running' || state === 'pausing' || state === 'missing';
}
