import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { decodePosition, encodePosition, type Page } from '../http/paging.js';
import { Reply } from '../http/reply.js';
import { IdempotencyService } from '../operation/idempotency.service.js';
import { TemporalLinks } from '../temporal/temporal-links.js';
import { BuildLauncher } from './build-launcher.js';
import { BuildStarter } from './build-starter.js';
import type { TemplateBuildEntity } from './template-build.entity.js';
import { TemplateBuildRepository } from './template-build.repository.js';
import { toBuildDto, type BuildDto, type BuildQuery, type CreateBuildDto } from './template.dto.js';
import { TemplateRepository } from './template.repository.js';

@Injectable()
export class TemplateBuildService {
  constructor(
    private readonly builds: TemplateBuildRepository,
    private readonly templates: TemplateRepository,
    private readonly idempotency: IdempotencyService,
    private readonly launcher: BuildLauncher,
    private readonly starter: BuildStarter,
    private readonly links: TemporalLinks,
  ) {}

  async create(
    asked: { teamId: string; idempotencyKey: string | null; waitMs: number },
    body: CreateBuildDto,
  ): Promise<Reply<BuildDto>> {
    const { teamId, idempotencyKey, waitMs } = asked;
    const { opId: buildId } = await this.idempotency.begin(teamId, 'POST /v1/templates/builds', idempotencyKey, body);
    const earlier = await this.builds.find(teamId, buildId);
    const began =
      earlier ?? (await this.launcher.launch({ teamId, buildId, repeatable: idempotencyKey !== null }, body));
    const ended = waitMs > 0 && (began.state !== 'running' || (await this.ended(began.id, waitMs)));
    const row = await this.known(teamId, began.id);
    if (ended && row.state !== 'ready') throw notReady(row);
    return new Reply(ended ? 201 : 202, await this.show(row), earlier !== null);
  }

  private async ended(buildId: string, waitMs: number): Promise<boolean> {
    try {
      return (await this.starter.ended(buildId, waitMs)) === 'ended';
    } catch (error) {
      // The row tells why it failed, better than the run does.
      if (error instanceof DomainError && error.code !== 'control_plane_unavailable') return true;
      throw error;
    }
  }

  async list(teamId: string, query: BuildQuery): Promise<Page<BuildDto>> {
    const filter = {
      state: query.state,
      templateIds: query.template === undefined ? undefined : await this.templates.idsOf(teamId, query.template),
    };
    const after = query.cursor === undefined ? null : decodePosition(query.cursor);
    const rows = await this.builds.list(teamId, filter, query.limit + 1, after);
    const shown = rows.slice(0, query.limit);
    const names = await this.templates.namesOf(shown.map(({ templateId }) => templateId));
    const last = shown.at(-1);
    return {
      items: shown.map((row) => toBuildDto(row, names.get(row.templateId) ?? row.templateId, this.links.of)),
      next_cursor: last && rows.length > query.limit ? encodePosition({ at: last.startedAt, id: last.id }) : null,
    };
  }

  async get(teamId: string, id: string): Promise<BuildDto> {
    return this.show(await this.known(teamId, id));
  }

  async log(teamId: string, id: string, offset: number): Promise<string> {
    await this.known(teamId, id);
    return this.builds.log(id, offset);
  }

  async cancel(teamId: string, id: string): Promise<BuildDto> {
    const row = await this.known(teamId, id);
    if (row.teamId !== teamId)
      throw new DomainError('forbidden', `build ${id} of a template of the platform was asked for by another team`);
    if (row.state === 'cancelled') return this.show(row);
    if (row.state !== 'running') {
      throw new DomainError('state_conflict', `cannot cancel build ${id}: it is ${row.state}`, { state: row.state });
    }
    await this.starter.cancel(id);
    return this.show(await this.known(teamId, id));
  }

  private async known(teamId: string, id: string): Promise<TemplateBuildEntity> {
    const row = await this.builds.visible(teamId, id);
    if (!row) throw new DomainError('not_found', `there is no build ${id}`);
    return row;
  }

  private async show(row: TemplateBuildEntity): Promise<BuildDto> {
    const names = await this.templates.namesOf([row.templateId]);
    return toBuildDto(row, names.get(row.templateId) ?? row.templateId, this.links.of);
  }
}

function notReady({ id, state, failure }: TemplateBuildEntity): DomainError {
  if (!failure) return new DomainError('state_conflict', `build ${id} is ${state}`, { build_id: id, state });
  const { code, step, message } = failure;
  return new DomainError(code, `build failed at ${step}: ${message}`, { build_id: id, step, state });
}
