import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure, TemporalFailure } from '@temporalio/common';
import type { ActivityExecuteInput, ActivityInboundCallsInterceptor, Next } from '@temporalio/worker';
import { DomainError, ERRORS, type ErrorCode } from '../workflows/contract/errors.js';
import { isDiskFull } from './errno.js';
import { CommandError } from './exec.js';
import { printedRefusal, saysDiskFull, systemFailure } from './system-failure.js';

/** Every failure is written to the run's history; more of a command's output belongs into the host's log. */
const STDERR_TAIL_CHARS = 2_000;

/** The part of a structured logger that reports what nobody expected. */
interface ErrorLog {
  error(fields: object, message: string): void;
}

/**
 * Around every step: whatever it throws becomes a Temporal failure whose `type` is a
 * code of the error table, which also says whether a retry makes sense. The message
 * names the step, the host and the reason, because operators read it in the Temporal UI.
 */
export class FailureInterceptor implements ActivityInboundCallsInterceptor {
  constructor(
    private readonly hostName: string,
    private readonly log?: ErrorLog,
  ) {}

  async execute(input: ActivityExecuteInput, next: Next<ActivityInboundCallsInterceptor, 'execute'>): Promise<unknown> {
    try {
      return await next(input);
    } catch (err) {
      const step = Context.current().info.activityType;
      const failure = toFailure(err, step, this.hostName);
      if (failure instanceof ApplicationFailure && failure.type === 'internal_error') {
        this.log?.error({ err, step }, 'step failed unexpectedly');
      }
      throw failure;
    }
  }
}

/** Cancellation and failures that are Temporal's own already pass through. */
export function toFailure(err: unknown, step: string, hostName: string): TemporalFailure {
  if (err instanceof CancelledFailure || err instanceof TemporalFailure) return err;
  const { code, details, why } = classify(err);
  return ApplicationFailure.create({
    type: code,
    message: `${step} failed on host ${hostName}: ${why}`,
    nonRetryable: !ERRORS[code].retryable,
    details: [details],
    ...(err instanceof Error ? { cause: err } : {}),
  });
}

interface Classified {
  code: ErrorCode;
  details: Readonly<Record<string, unknown>>;
  why: string;
}

function classify(err: unknown): Classified {
  const why = err instanceof Error ? err.message : String(err);
  // A failure whose undo failed too is still that failure; the message tells of both.
  if (err instanceof AggregateError && err.cause !== undefined) return { ...classify(err.cause), why };
  if (err instanceof DomainError) return { code: err.code, details: err.details, why };
  if (err instanceof CommandError) {
    const { argv, exitCode, signal, timedOut } = err;
    const refusal = printedRefusal(err.stderr);
    return {
      code: saysDiskFull(err.stderr) ? 'disk_full' : 'command_failed',
      details: { argv, exitCode, signal, timedOut, stderr: err.stderr.slice(-STDERR_TAIL_CHARS) },
      why: refusal === undefined ? why : `${why}: ${refusal}`,
    };
  }
  if (isDiskFull(err)) return { code: 'disk_full', details: {}, why };
  if (err instanceof Error && err.name === 'TimeoutError') return { code: 'timeout', details: {}, why };
  const refused = systemFailure(err);
  if (refused !== undefined) return { code: refused.code, details: refused.details, why: refused.message };
  return { code: 'internal_error', details: {}, why };
}
