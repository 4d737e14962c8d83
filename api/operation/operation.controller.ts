import { Controller, Get, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Access, CurrentCaller, type Caller } from '../auth/access.js';
import type { Page } from '../http/paging.js';
import type { Reply } from '../http/reply.js';
import { Returns, ReturnsPage } from '../http/returns.decorator.js';
import { waitMsOf, WaitQuery } from '../http/wait.dto.js';
import { OperationDto, OperationQuery } from './operation.dto.js';
import { OperationService } from './operation.service.js';

@ApiTags('operations')
@Controller('v1/operations')
@Access('team')
export class OperationController {
  constructor(private readonly operations: OperationService) {}

  /** Operations, newest first. */
  @Get()
  @ReturnsPage(OperationDto)
  list(@CurrentCaller() { teamId }: Caller, @Query() query: OperationQuery): Promise<Page<OperationDto>> {
    return this.operations.list(teamId, query);
  }

  /** One operation; while it runs, with what it does now. */
  @Get(':id')
  @Returns(OperationDto)
  get(@CurrentCaller() { teamId }: Caller, @Param('id') id: string): Promise<OperationDto> {
    return this.operations.get(teamId, id);
  }

  /** Repeats a failed or cancelled operation, as a new one. */
  @Post(':id/retry')
  @Returns(OperationDto, 202, 200)
  retry(
    @CurrentCaller() { teamId }: Caller,
    @Param('id') id: string,
    @Query() query: WaitQuery,
  ): Promise<Reply<OperationDto>> {
    return this.operations.retry(teamId, id, waitMsOf(query));
  }
}
