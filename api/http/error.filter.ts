import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { isDatabaseOutage } from '../../activities/control/failure.js';
import { DomainError, ERRORS, type ErrorCode } from '../../workflows/contract/errors.js';

export interface ErrorBody {
  error: { code: ErrorCode; message: string; details?: Readonly<Record<string, unknown>>; suggestion?: string };
}

/** Every error that leaves the API takes its status and shape here. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  constructor(private readonly logger: Logger) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const known = asDomainError(error);
    if (!known)
      this.logger.error({ err: error, requestId: request.id, route: request.routeOptions?.url }, 'request failed');
    const shown = known ?? new DomainError('internal_error', `the API failed; request id ${request.id}`);
    const response = host.switchToHttp().getResponse<FastifyReply>();
    // A route that answers with text has said so already.
    void response.status(ERRORS[shown.code].http).type('application/json; charset=utf-8').send(errorBody(shown));
  }
}

function errorBody({ code, message, details }: DomainError): ErrorBody {
  return {
    error: {
      code,
      message,
      ...(Object.keys(details).length > 0 ? { details } : {}),
      suggestion: ERRORS[code].suggestion,
    },
  };
}

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  405: 'invalid_request',
  413: 'too_large',
  415: 'invalid_request',
  429: 'rate_limited',
};

/** An expected failure; null for what is a bug. */
function asDomainError(error: unknown): DomainError | null {
  if (error instanceof DomainError) return error;
  if (isDatabaseOutage(error)) {
    const reason = error instanceof Error ? error.message : String(error);
    return new DomainError('control_plane_unavailable', 'the database does not answer', { part: 'postgres', reason });
  }
  const status = statusOf(error);
  const code = status === null ? undefined : CODE_OF_STATUS[status];
  return code ? new DomainError(code, (error as Error).message) : null;
}

/** Of the framework's own refusals: unknown route, body that is no JSON or too large, wrong media type. */
function statusOf(error: unknown): number | null {
  if (error instanceof HttpException) return error.getStatus();
  const status = error instanceof Error ? (error as { statusCode?: unknown }).statusCode : null;
  return typeof status === 'number' ? status : null;
}
