import { Body, Controller, Get, Post, Query } from '@nestjs/common';
import { ApiBody, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import { PageQuery } from '../http/page.dto.js';
import type { Page } from '../http/paging.js';
import { Returns, ReturnsPage } from '../http/returns.decorator.js';
import { LoggedFindingDto, ReconcileDto, ReconcileReportDto } from './ops.dto.js';
import { OpsService } from './ops.service.js';

@ApiTags('ops')
@Controller('v1/ops')
@Access('operator')
export class OpsController {
  constructor(private readonly ops: OpsService) {}

  /** Compares rows, runs and hosts now, mends what can be mended, and tells every finding. */
  @Post('reconcile')
  @ApiBody({ type: ReconcileDto, required: false })
  @Returns(ReconcileReportDto)
  reconcile(@Body() body: ReconcileDto): Promise<ReconcileReportDto> {
    return this.ops.reconcile(body);
  }

  /** What reconciliations have found, newest first. */
  @Get('findings')
  @ReturnsPage(LoggedFindingDto)
  findings(@Query() query: PageQuery): Promise<Page<LoggedFindingDto>> {
    return this.ops.findings(query);
  }
}
