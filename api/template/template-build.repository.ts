import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { BuildState } from '../../workflows/contract/states.js';
import type { Position } from '../http/paging.js';
import { LEASE_HELD } from '../host/host-lease.query.js';
import { HostEntity } from '../host/host.entity.js';
import { PLATFORM_TEAM_ID } from '../team/team.entity.js';
import { TemplateBuildEntity } from './template-build.entity.js';
import { TemplateEntity } from './template.entity.js';

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

  /** Whoever it belongs to. */
  findAny(id: string): Promise<TemplateBuildEntity | null> {
    return this.dataSource.manager.findOneBy(TemplateBuildEntity, { id });
  }

  /** The team's own, and those of the platform's templates: nothing of anybody's is in them. */
  visible(teamId: string, id: string): Promise<TemplateBuildEntity | null> {
    return this.dataSource
      .createQueryBuilder(TemplateBuildEntity, 'b')
      .innerJoin(TemplateEntity, 't', 't.id = b.template_id')
      .where('b.id = :id AND (b.team_id = :teamId OR t.team_id = :platform)', {
        id,
        teamId,
        platform: PLATFORM_TEAM_ID,
      })
      .getOne();
  }

  /** The build that makes this now, when it is made on every online host that could make it. */
  async warmingEverywhere(
    template: TemplateEntity,
    size: { vcpus: number; memory_mb: number },
  ): Promise<TemplateBuildEntity | null> {
    const [row] = await this.dataSource.query<{ id: string }[]>(
      `WITH same AS (
         SELECT id, host_id, started_at FROM template_builds
         WHERE template_id = $1 AND state = 'running' AND vcpus = $2 AND memory_mb = $3
       )
       SELECT id FROM same WHERE NOT EXISTS (
         SELECT FROM hosts WHERE ${LEASE_HELD} AND images ? $4
           AND id NOT IN (SELECT host_id FROM same)
       ) ORDER BY started_at, id LIMIT 1`,
      [template.id, size.vcpus, size.memory_mb, template.image],
    );
    return row ? this.findAny(row.id) : null;
  }

  list(teamId: string, filter: BuildFilter, limit: number, after: Position | null): Promise<TemplateBuildEntity[]> {
    const query = this.dataSource.createQueryBuilder(TemplateBuildEntity, 'b').where('b.team_id = :teamId', { teamId });
    if (filter.templateIds) query.andWhere('b.template_id = ANY(:templateIds)', { templateIds: filter.templateIds });
    if (filter.state) query.andWhere('b.state = :state', { state: filter.state });
    if (after) query.andWhere('(b.started_at, b.id) < (:at, :id)', after);
    return query.orderBy('b.started_at', 'DESC').addOrderBy('b.id', 'DESC').take(limit).getMany();
  }

  /** Newest first, of each of these templates. Not those that their host, with another hypervisor by now, cannot restore. */
  async readyOf(templateIds: readonly string[]): Promise<Map<string, TemplateBuildEntity[]>> {
    if (templateIds.length === 0) return new Map();
    const builds = await this.dataSource
      .createQueryBuilder(TemplateBuildEntity, 'b')
      .innerJoin(HostEntity, 'h', 'h.id = b.host_id')
      .where(`b.template_id = ANY(:templateIds) AND b.state = 'ready'`, { templateIds })
      .andWhere(`b.artefact->>'hypervisor' = h.hypervisor || ' ' || h.hypervisor_version`)
      .andWhere(`b.artefact->>'cpu' = h.cpu`)
      .orderBy('b.finished_at', 'DESC')
      .addOrderBy('b.id', 'DESC')
      .getMany();
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
