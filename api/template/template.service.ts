import { Injectable } from '@nestjs/common';
import type { PageQuery } from '../http/page.dto.js';
import { decodePosition, encodePosition, toPage, type Page } from '../http/paging.js';
import { TemplateBuildRepository } from './template-build.repository.js';
import { toTemplateDto, type TemplateDto } from './template.dto.js';
import { TemplateRepository } from './template.repository.js';

@Injectable()
export class TemplateService {
  constructor(
    private readonly templates: TemplateRepository,
    private readonly builds: TemplateBuildRepository,
  ) {}

  async list(teamId: string, query: PageQuery): Promise<Page<TemplateDto>> {
    const after = query.cursor === undefined ? null : decodePosition(query.cursor);
    const rows = await this.templates.list(teamId, query.limit + 1, after);
    const ready = await this.builds.readyOf(rows.map(({ id }) => id));
    return toPage(
      rows,
      query.limit,
      (row) => toTemplateDto(row, ready.get(row.id) ?? []),
      ({ createdAt, id }) => encodePosition({ at: createdAt, id }),
    );
  }
}
