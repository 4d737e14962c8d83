import { Injectable } from '@nestjs/common';
import { DataSource, In } from 'typeorm';
import type { Position } from '../http/paging.js';
import { PLATFORM_TEAM_ID } from '../team/team.entity.js';
import { TemplateEntity } from './template.entity.js';

@Injectable()
export class TemplateRepository {
  constructor(private readonly dataSource: DataSource) {}

  /** By name or id; a team's own goes before the platform's of the same name. */
  async visible(teamId: string, nameOrId: string): Promise<TemplateEntity | null> {
    const found = await this.matching(teamId, nameOrId);
    return found.find((template) => template.teamId === teamId) ?? found[0] ?? null;
  }

  /** By name or id. No team can have a template of such a name. */
  ofPlatform(nameOrId: string): Promise<TemplateEntity | null> {
    return this.dataSource.manager.findOneBy(TemplateEntity, [
      { teamId: PLATFORM_TEAM_ID, name: nameOrId },
      { teamId: PLATFORM_TEAM_ID, id: nameOrId },
    ]);
  }

  /** All that the name may mean, for filters. */
  async idsOf(teamId: string, nameOrId: string): Promise<string[]> {
    return (await this.matching(teamId, nameOrId)).map(({ id }) => id);
  }

  private matching(teamId: string, nameOrId: string): Promise<TemplateEntity[]> {
    const teams = In([teamId, PLATFORM_TEAM_ID]);
    return this.dataSource.manager.findBy(TemplateEntity, [
      { teamId: teams, name: nameOrId },
      { teamId: teams, id: nameOrId },
    ]);
  }

  async namesOf(ids: readonly string[]): Promise<Map<string, string>> {
    if (ids.length === 0) return new Map();
    const templates = await this.dataSource.manager.findBy(TemplateEntity, { id: In([...new Set(ids)]) });
    return new Map(templates.map(({ id, name }) => [id, name]));
  }

  list(teamId: string, limit: number, after: Position | null): Promise<TemplateEntity[]> {
    const query = this.dataSource
      .createQueryBuilder(TemplateEntity, 't')
      .where('t.team_id IN (:...teams)', { teams: [teamId, PLATFORM_TEAM_ID] });
    if (after) query.andWhere('(t.created_at, t.id) < (:at, :id)', after);
    return query.orderBy('t.created_at', 'DESC').addOrderBy('t.id', 'DESC').take(limit).getMany();
  }

  /** The team's own template of this name, made when there is none. */
  async ensure(template: Omit<TemplateEntity, 'createdAt'>): Promise<TemplateEntity> {
    const insert = this.dataSource.createQueryBuilder().insert().into(TemplateEntity);
    await insert.values(template).orIgnore().execute();
    const { teamId, name } = template;
    return this.dataSource.manager.findOneByOrFail(TemplateEntity, { teamId, name });
  }
}
