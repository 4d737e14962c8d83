import type { ArgumentMetadata, PipeTransform } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { ID_PATTERN } from '../../workflows/contract/ids.js';

/** Refuses what no id can be before it is looked for: the database cannot even hold some of it. */
export class IdPipe implements PipeTransform<unknown> {
  transform(value: unknown, { type, data }: ArgumentMetadata): unknown {
    if (type !== 'param' || data !== 'id') return value;
    if (typeof value === 'string' && ID_PATTERN.test(value)) return value;
    throw new DomainError(
      'invalid_request',
      `id must be 1 to 40 lower-case letters and digits, not ${JSON.stringify(value)}`,
      { fields: ['id'] },
    );
  }
}
