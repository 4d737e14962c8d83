import type { Timing } from '../../workflows/contract/operations.js';

/** Short enough for tests, long enough that a busy machine does not trip over them. */
export const TIMING: Timing = {
  retryInitialMs: 20,
  stepAttempts: 2,
  hostPickupMs: 3_000,
  stepMs: 10_000,
  longStepMs: 10_000,
  heartbeatMs: 5_000,
  undoMs: 20_000,
  forwardRetryMaxMs: 100,
};
