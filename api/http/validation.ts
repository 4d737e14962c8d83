import { ValidationPipe, type ValidationError } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';

/** What was sent may be a secret: an environment, a program's input. */
const NEVER_SHOWN = /^(env|stdin|stdin_base64)\b/;
const SHOWN_CHARACTERS = 80;

/** Refuses what a DTO does not describe: unknown fields included. */
export function createValidationPipe(): ValidationPipe {
  return new ValidationPipe({
    transform: true,
    whitelist: true,
    forbidNonWhitelisted: true,
    stopAtFirstError: true,
    exceptionFactory: (errors) => invalidRequest(errors),
  });
}

interface Problem {
  field: string;
  message: string;
}

function invalidRequest(errors: ValidationError[]): DomainError {
  const problems = errors.flatMap((error) => problemsOf(error, ''));
  return new DomainError('invalid_request', problems.map(({ message }) => message).join('; '), {
    fields: problems.map(({ field }) => field),
  });
}

function problemsOf(error: ValidationError, prefix: string): Problem[] {
  const field = `${prefix}${error.property}`;
  const here = Object.entries(error.constraints ?? {}).map(([rule, text]) => ({
    field,
    message: rule === 'whitelistValidation' ? `${field}: there is no such field` : `${text}${shown(field, error.value)}`,
  }));
  return [...here, ...(error.children ?? []).flatMap((child) => problemsOf(child, `${field}.`))];
}

function shown(field: string, value: unknown): string {
  if (value === undefined) return ', but it is missing';
  if (NEVER_SHOWN.test(field)) return '';
  const text = JSON.stringify(value) ?? String(value);
  return `, not ${text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}`;
}
