import { Injectable } from '@nestjs/common';
import { DataSource, In } from 'typeorm';
import type { BuildState } from '../../workflows/contract/states.js';
import type { Position } from '../http/paging.js';
import { TemplateBuildEntity } from './template-build.entity.js';

export interface BuildFilter {
  templateIds?: readonly string[] | undefined;
  state?: BuildState | undefined;
}

@Injectable()
export class TemplateBuildRepository {
  constructor(private readonly dataSource: DataSource) {}

  find(teamId: string, id: string): Promise<TemplateBuildEntity | null> {
    return this.dataSource.manager.findOneBy(TemplateBuildEntity, { teamId, id });
  }

  list(teamId: string, filter: BuildFilter, limit: number, after: Position | null): Promise<TemplateBuildEntity[]> {
    const query = this.dataSource.createQueryBuilder(TemplateBuildEntity, 'b').where('b.team_id = :teamId', { teamId });
    if (filter.templateIds) query.andWhere('b.template_id = ANY(:templateIds)', { templateIds: filter.templateIds });
    if (filter.state) query.andWhere('b.state = :state', { state: filter.state });
    if (after) query.andWhere('(b.started_at, b.id) < (:at, :id)', after);
    return query.orderBy('b.started_at', 'DESC').addOrderBy('b.id', 'DESC').take(limit).getMany();
  }

  /** Newest first, of each of these templates. */
  async readyOf(templateIds: readonly string[]): Promise<Map<string, TemplateBuildEntity[]>> {
    if (templateIds.length === 0) return new Map();
    const builds = await this.dataSource.manager.find(TemplateBuildEntity, {
      where: { templateId: In([...templateIds]), state: 'ready' },
      order: { finishedAt: 'DESC', id: 'DESC' },
    });
    const byTemplate = new Map<string, TemplateBuildEntity[]>();
    for (const build of builds) byTemplate.set(build.templateId, [...(byTemplate.get(build.templateId) ?? []), build]);
    return byTemplate;
  }

  /** What the build's commands printed, from a byte on. */
  async log(buildId: string, offset: number): Promise<string> {
    const rows = await this.dataSource.query<{ text: string }[]>(
      'SELECT text FROM build_logs WHERE build_id = $1 ORDER BY seq',
      [buildId],
    );
    const bytes = Buffer.from(rows.map(({ text }) => text).join(''));
    return bytes.subarray(offset).toString();
  }
}
