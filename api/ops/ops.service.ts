import { Injectable } from '@nestjs/common';
import type { PageQuery } from '../http/page.dto.js';
import { rowCursor, toPage, type Page } from '../http/paging.js';
import {
  toLoggedFindingDto,
  toReportDto,
  type LoggedFindingDto,
  type ReconcileDto,
  type ReconcileReportDto,
} from './ops.dto.js';
import { ReconcileLogRepository } from './reconcile-log.repository.js';
import { ReconcileRunner } from './reconcile-runner.js';

/** What is done by and for those who operate the platform. */
@Injectable()
export class OpsService {
  constructor(
    private readonly runner: ReconcileRunner,
    private readonly log: ReconcileLogRepository,
  ) {}

  async reconcile(body: ReconcileDto): Promise<ReconcileReportDto> {
    return toReportDto(await this.runner.run({ dryRun: body.dry_run, removeUnknown: body.remove_unknown }));
  }

  async findings({ limit, cursor }: PageQuery): Promise<Page<LoggedFindingDto>> {
    const before = cursor === undefined ? null : rowCursor(cursor);
    const rows = await this.log.list(limit + 1, before);
    return toPage(rows, limit, toLoggedFindingDto, ({ id }) => id);
  }
}
