import { applyDecorators, createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { ApiHeader } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { DomainError } from '../../workflows/contract/errors.js';

const PRINTABLE = /^[\x20-\x7e]{1,128}$/;

/** The request's Idempotency-Key; null when it has none. */
export const IdempotencyKey = createParamDecorator((_: unknown, context: ExecutionContext): string | null => {
  const key = context.switchToHttp().getRequest<FastifyRequest>().headers['idempotency-key'];
  if (key === undefined) return null;
  if (typeof key === 'string' && PRINTABLE.test(key)) return key;
  throw new DomainError(
    'invalid_request',
    `Idempotency-Key must be 1 to 128 printable ASCII characters, not ${JSON.stringify(key)}`,
    {
      fields: ['Idempotency-Key'],
    },
  );
});

export function ApiIdempotent(): MethodDecorator {
  return applyDecorators(
    ApiHeader({
      name: 'Idempotency-Key',
      required: false,
      description: 'The same key again answers with the same operation instead of starting another.',
    }),
  );
}
