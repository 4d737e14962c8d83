import { ValidationPipe, type ValidationError } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';

/** What was sent may be a secret: an environment, a program's input. */
const NEVER_SHOWN = /^(env|stdin|stdin_base64)\b/;
const SHOWN_CHARACTERS = 80;
const KIND_RULES = new Set(['isInt', 'isString', 'isBoolean', 'isArray', 'isObject', 'whitelistValidation']);

/** Refuses what a DTO does not describe: unknown fields included. */
export function createValidationPipe(): ValidationPipe {
  return new ValidationPipe({
    transform: true,
    whitelist: true,
    forbidNonWhitelisted: true,
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
  const broken = brokenRule(error.constraints ?? {});
  // Of what is wrong as a whole its parts say nothing more.
  if (broken) return [{ field, message: messageOf(broken, prefix, error) }];
  return (error.children ?? []).flatMap((child) => problemsOf(child, `${field}.`));
}

/** One problem per field is enough: that it is of the wrong kind, before that it is out of bounds. */
function brokenRule(constraints: Record<string, string>): [rule: string, text: string] | undefined {
  const broken = Object.entries(constraints);
  return broken.find(([rule]) => KIND_RULES.has(rule)) ?? broken[0];
}

function messageOf([rule, text]: [rule: string, text: string], prefix: string, error: ValidationError): string {
  const { property } = error;
  const field = `${prefix}${property}`;
  if (rule === 'whitelistValidation') return `${field}: there is no such field`;
  // Rules know the name of a field, not what it is a field of.
  return `${text.startsWith(property) ? prefix : ''}${text}${shown(field, valueOf(error))}`;
}

/** The validator forgets a list once it has looked into it, and keeps the elements that are wrong. */
function valueOf({ value, children = [] }: ValidationError): unknown {
  return children.length === 0 ? (value as unknown) : children.map((child) => child.value as unknown);
}

function shown(field: string, value: unknown): string {
  if (value === undefined) return ', but it is missing';
  if (NEVER_SHOWN.test(field)) return '';
  const text = JSON.stringify(value) ?? String(value);
  return `, not ${text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}`;
}
