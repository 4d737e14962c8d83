import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  TimeoutFailure,
  isCancellation,
} from '@temporalio/workflow';
import { TimeoutType } from '@temporalio/common';
import { isErrorCode, type Failure } from './contract/errors.js';

/** What an error means to people and programs: the step it came from, a code of the table, a sentence. */
export function describeFailure(err: unknown, stage = 'workflow'): Failure {
  const step = err instanceof ActivityFailure ? err.activityType : stage;
  const cause = err instanceof ActivityFailure ? (err.cause ?? err) : err;
  if (err instanceof ApplicationFailure && isFailure(err.details?.[0])) return err.details[0];
  if (cause instanceof ApplicationFailure) {
    return { step, code: isErrorCode(cause.type) ? cause.type : 'internal_error', message: cause.message };
  }
  if (cause instanceof TimeoutFailure) return { step, ...describeTimeout(step, cause, err) };
  if (isCancellation(err) || cause instanceof CancelledFailure) {
    return { step, code: 'state_conflict', message: 'cancelled before it was done' };
  }
  return { step, code: 'internal_error', message: cause instanceof Error ? cause.message : String(cause) };
}

/** What a workflow itself threw by `toWorkflowFailure`. */
function isFailure(detail: unknown): detail is Failure {
  return typeof detail === 'object' && detail !== null && 'step' in detail && 'code' in detail && 'message' in detail;
}

function describeTimeout(step: string, timeout: TimeoutFailure, err: unknown): Pick<Failure, 'code' | 'message'> {
  if (timeout.timeoutType === TimeoutType.SCHEDULE_TO_START || ranOutWaiting(timeout, err)) {
    return {
      code: 'host_unavailable',
      message: `no worker of the host took the step ${step} in time: it is down or cut off`,
    };
  }
  const last = timeout.cause instanceof Error ? `; its last failure: ${timeout.cause.message}` : '';
  return {
    code: timeout.timeoutType === TimeoutType.HEARTBEAT ? 'host_unavailable' : 'timeout',
    message: `${step} did not end in time (${timeout.timeoutType ?? 'timeout'})${last}`,
  };
}

/**
 * An undo has all its time to be taken. Where that ran out while nobody had it, and no attempt before ended otherwise than
 * with the worker that made it, its host was away.
 */
function ranOutWaiting(timeout: TimeoutFailure, err: unknown): boolean {
  if (timeout.timeoutType !== TimeoutType.SCHEDULE_TO_CLOSE || !(err instanceof ActivityFailure)) return false;
  const startedEventId = err.failure?.activityFailureInfo?.startedEventId;
  const { cause } = timeout;
  const diedTrying = cause instanceof TimeoutFailure && cause.timeoutType === TimeoutType.HEARTBEAT;
  return Number(startedEventId ?? 0) === 0 && (cause === undefined || diedTrying);
}

/** Nobody served the host's queue: the step never began, and an undo there would wait as long. */
export function isHostAway(err: unknown): boolean {
  return (
    err instanceof ActivityFailure &&
    err.cause instanceof TimeoutFailure &&
    err.cause.timeoutType === TimeoutType.SCHEDULE_TO_START
  );
}

/** As the run's own failure, which Temporal must not retry and whose type is the code. */
export function toWorkflowFailure(failure: Failure): ApplicationFailure {
  return ApplicationFailure.create({
    type: failure.code,
    message: `${failure.step}: ${failure.message}`,
    nonRetryable: true,
    details: [failure],
  });
}
