import { WorkflowContinuedAsNewError, WorkflowFailedError, WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { DomainError, isErrorCode, type Failure } from '../../workflows/contract/errors.js';
import type { Settled } from '../../workflows/contract/operations.js';
import type { OperationKind } from '../../workflows/contract/states.js';

/** The failure that a workflow reports, as its `ApplicationFailure` carries it. */
export function failureOf(cause: unknown): Failure | null {
  if (!(cause instanceof ApplicationFailure) || !isErrorCode(cause.type)) return null;
  const detail = cause.details?.[0] as Partial<Failure> | undefined;
  const told = detail?.code === cause.type && detail.step !== undefined && detail.message !== undefined;
  return told ? (detail as Failure) : { step: 'workflow', code: cause.type, message: cause.message };
}

/** Why a run would not take the sandbox; null when the error is something else. */
export function refusalOf(error: unknown): DomainError | null {
  if (!(error instanceof WorkflowUpdateFailedError)) return null;
  const failure = failureOf(error.cause);
  return failure && new DomainError(failure.code, failure.message, {}, { cause: error });
}

/** How a run ended, when it could not answer an update any more; null when that cannot be told. */
export async function settledByResult(
  run: { opId: string; kind: OperationKind },
  result: () => Promise<unknown>,
): Promise<Settled | null> {
  const settled = { opId: run.opId, kind: run.kind, epoch: 0 };
  try {
    await result();
    return settled;
  } catch (error) {
    if (error instanceof WorkflowContinuedAsNewError) {
      return { ...settled, failure: cancelled(`a destroy took over`) };
    }
    if (!(error instanceof WorkflowFailedError)) throw error;
    if (error.cause instanceof CancelledFailure) return { ...settled, failure: cancelled('the run was cancelled') };
    const failure = failureOf(error.cause);
    return failure && { ...settled, failure };
  }
}

function cancelled(why: string): Failure {
  return { step: 'workflow', code: 'state_conflict', message: why };
}
