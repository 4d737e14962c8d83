import { proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { ControlActivities } from '../activities/control/contract.js';
import { ERRORS } from './contract/errors.js';

// A refusal by the rules is an answer, not a fault: the caller waits for it. Only a
// database that cannot be asked is worth asking again.
const REFUSALS = Object.keys(ERRORS).filter(
  (code) => code !== 'control_plane_unavailable' && code !== 'internal_error',
);

/**
 * The steps that touch Postgres. They run in the worker that runs the workflow, so
 * they cost no round trip; a database that is down makes them wait, never fail.
 */
export const control = proxyLocalActivities<ControlActivities>({
  startToCloseTimeout: '5 seconds',
  localRetryThreshold: '30 seconds',
  retry: {
    initialInterval: '200 milliseconds',
    maximumInterval: '10 seconds',
    nonRetryableErrorTypes: REFUSALS,
  },
});

/** Reads many rows and may ask Temporal about some of them. Its input, which is large, never enters a history. */
export const comparing = proxyLocalActivities<Pick<ControlActivities, 'surveySandboxes' | 'compareHost'>>({
  startToCloseTimeout: '30 seconds',
  localRetryThreshold: '30 seconds',
  retry: { initialInterval: '1 second', maximumInterval: '10 seconds', nonRetryableErrorTypes: REFUSALS },
});

/** The control steps that take long: they wait for, or start, whole operations. */
export const waiting = proxyActivities<Pick<ControlActivities, 'expire' | 'repair'>>({
  startToCloseTimeout: '1 hour',
  // As short as that of a host's steps: nobody waits longer for a control worker that was killed.
  heartbeatTimeout: '10 seconds',
  retry: { initialInterval: '1 second', maximumInterval: '30 seconds' },
});
