import type { Timing } from './contract/operations.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

const DEFAULTS: Timing = {
  retryInitialMs: SECOND,
  stepAttempts: 3,
  // A host worker that restarts is back within this; one that is not is away.
  hostPickupMs: 30 * SECOND,
  stepMs: MINUTE,
  longStepMs: 10 * MINUTE,
  // The host beats every 2 s; four lost beats mean that the worker died.
  heartbeatMs: 10 * SECOND,
  undoMs: 10 * MINUTE,
  forwardRetryMaxMs: MINUTE,
};

export function timingOf(input: { timing?: Partial<Timing> }): Timing {
  return { ...DEFAULTS, ...input.timing };
}
