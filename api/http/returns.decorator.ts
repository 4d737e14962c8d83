import { STATUS_CODES } from 'node:http';
import { applyDecorators, HttpCode, type Type } from '@nestjs/common';
import { ApiExtraModels, ApiProperty, ApiPropertyOptional, ApiResponse, getSchemaPath } from '@nestjs/swagger';
import { ERRORS, type ErrorCode } from '../../workflows/contract/errors.js';

class ErrorDetailDto {
  /** What programs branch on. */
  @ApiProperty({ enum: Object.keys(ERRORS) })
  code!: ErrorCode;

  /** What failed and why, for people. */
  @ApiProperty()
  message!: string;

  /** Facts for programs; which ones depends on the code. */
  @ApiPropertyOptional({ type: 'object', additionalProperties: true })
  details?: Record<string, unknown>;

  /** What to do about it. */
  @ApiPropertyOptional()
  suggestion?: string;
}

export class ErrorDto {
  @ApiProperty({ type: ErrorDetailDto })
  error!: ErrorDetailDto;
}

/** Status that does not depend on what the handler finds, shape of the answer, and shape of every error. */
export function Returns(model: Type | null, status = 200, ...otherStatuses: number[]): MethodDecorator {
  const statuses = [status, ...otherStatuses];
  return applyDecorators(
    // A handler that answers with several statuses sets its own.
    ...(otherStatuses.length === 0 ? [HttpCode(status)] : []),
    ...statuses.map((code) =>
      ApiResponse({ status: code, description: STATUS_CODES[code] ?? '', ...(model ? { type: model } : {}) }),
    ),
    ApiResponse({ status: 'default', description: 'Error', type: ErrorDto }),
  );
}

export function ReturnsText(description: string): MethodDecorator {
  return applyDecorators(
    HttpCode(200),
    ApiResponse({ status: 200, description, content: { 'text/plain': { schema: { type: 'string' } } } }),
    ApiResponse({ status: 'default', description: 'Error', type: ErrorDto }),
  );
}

export function ReturnsPage(item: Type): MethodDecorator {
  return applyDecorators(
    HttpCode(200),
    ApiExtraModels(item),
    ApiResponse({
      status: 200,
      description: STATUS_CODES[200] ?? '',
      schema: {
        type: 'object',
        required: ['items', 'next_cursor'],
        properties: {
          items: { type: 'array', items: { $ref: getSchemaPath(item) } },
          next_cursor: { type: 'string', nullable: true, description: '`cursor` of the next page' },
        },
      },
    }),
    ApiResponse({ status: 'default', description: 'Error', type: ErrorDto }),
  );
}
