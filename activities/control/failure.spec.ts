import { describe, expect, it } from '@jest/globals';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { DomainError, ERRORS, type ErrorCode } from '../../workflows/contract/errors.js';
import { isDatabaseOutage, toApplicationFailure, translatingFailures } from './failure.js';

describe('failures of control activities', () => {
  it.each(Object.keys(ERRORS) as ErrorCode[])('%s keeps its code and whether it can be retried', (code) => {
    const failure = toApplicationFailure(new DomainError(code, 'why', { fact: 1 }));
    expect(failure).toMatchObject({
      type: code,
      message: 'why',
      nonRetryable: !ERRORS[code].retryable,
      details: [{ fact: 1 }],
    });
  });

  it('passes on what Temporal understands already', () => {
    for (const error of [ApplicationFailure.nonRetryable('x'), new CancelledFailure('y')]) {
      expect(toApplicationFailure(error)).toBe(error);
    }
  });

  it.each([
    Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }),
    new AggregateError([Object.assign(new Error('x'), { code: 'ECONNREFUSED' })]),
    Object.assign(new Error('terminating connection'), { code: '57P01' }),
    new Error('timeout exceeded when trying to connect'),
    new Error('Connection terminated unexpectedly'),
  ])('takes %s for an outage of the database, which passes', (error) => {
    expect(isDatabaseOutage(error)).toBe(true);
    expect(toApplicationFailure(error)).toMatchObject({ type: 'control_plane_unavailable', nonRetryable: false });
  });

  it('takes anything else for a bug', () => {
    expect(isDatabaseOutage(new TypeError('x is undefined'))).toBe(false);
    expect(toApplicationFailure(new TypeError('x is undefined'))).toMatchObject({ type: 'internal_error' });
    expect(toApplicationFailure('text')).toMatchObject({ type: 'internal_error', message: 'text' });
  });

  it('translates every activity of a set', async () => {
    const activities = translatingFailures({
      fine: async (input: number) => input + 1,
      broken: async () => Promise.reject(new DomainError('stale_operation', 'old')),
    });
    await expect(activities.fine(1)).resolves.toBe(2);
    await expect(activities.broken()).rejects.toMatchObject({ type: 'stale_operation', nonRetryable: true });
  });
});
