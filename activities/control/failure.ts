import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { DomainError, ERRORS } from '../../workflows/contract/errors.js';

/** What Postgres and its driver say when the database, not the statement, is the problem. */
const OUTAGE = /^(08...|57P0[1-3]|53300|ECONNREFUSED|ECONNRESET|ENOTFOUND|ETIMEDOUT|EPIPE)$/;
/** A statement that lost a race and does better when it runs again. */
const RACE = /^(40001|40P01|23505|55P03|57014)$/;

/** The code of an error of the driver; a connection that was never made has none but its text. */
function driverCode(error: unknown): string {
  if (!(error instanceof Error)) return '';
  const { code } = error as { code?: unknown };
  if (typeof code === 'string') return code;
  if (error instanceof AggregateError) return driverCode(error.errors[0]);
  return error.message.includes('timeout exceeded when trying to connect') ||
    error.message.includes('Connection terminated')
    ? '08006'
    : '';
}

export function isDatabaseOutage(error: unknown): boolean {
  return OUTAGE.test(driverCode(error));
}

/**
 * The one translator of the control activities: what a workflow sees of an error. Its
 * type is a code of the table, which also says whether trying again can help.
 */
export function toApplicationFailure(error: unknown): Error {
  if (error instanceof ApplicationFailure || error instanceof CancelledFailure) return error;
  if (error instanceof DomainError) {
    return ApplicationFailure.create({
      type: error.code,
      message: error.message,
      nonRetryable: !ERRORS[error.code].retryable,
      details: [error.details],
      cause: error,
    });
  }
  const cause = error instanceof Error ? error : new Error(String(error));
  if (isDatabaseOutage(error) || RACE.test(driverCode(error))) {
    return ApplicationFailure.create({
      type: 'control_plane_unavailable',
      message: `the database could not answer: ${cause.message || driverCode(error)}`,
      nonRetryable: false,
      cause,
    });
  }
  return ApplicationFailure.create({ type: 'internal_error', message: cause.message, nonRetryable: false, cause });
}

/** The same activities, whose errors are all translated. */
export function translatingFailures<T extends object>(activities: T): T {
  const translated = Object.entries(activities).map(([name, run]: [string, (input: unknown) => Promise<unknown>]) => [
    name,
    async (input: unknown) => {
      try {
        return await run(input);
      } catch (error) {
        throw toApplicationFailure(error);
      }
    },
  ]);
  return Object.fromEntries(translated) as T;
}
