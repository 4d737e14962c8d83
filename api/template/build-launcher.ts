import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { newAccessToken } from '../auth/tokens.js';
import { randomId } from '../operation/operation-id.js';
import { SandboxRepository } from '../sandbox/sandbox.repository.js';
import { BuildStarter } from './build-starter.js';
import type { TemplateBuildEntity } from './template-build.entity.js';
import { TemplateBuildRepository } from './template-build.repository.js';
import type { CreateBuildDto } from './template.dto.js';
import type { TemplateEntity } from './template.entity.js';
import { TemplateRepository } from './template.repository.js';

/** How long the first step of a build may take to write its row. */
const BEGIN_LIMIT_MS = 15_000;
const LOOK_EVERY_MS = 25;
/** What a new template starts from when nothing else is asked for. */
const DEFAULT_IMAGE = 'minimal';

/** Whose build, and whether the same request may come again under its key and must then find the same. */
export interface BuildRequest {
  teamId: string;
  buildId: string;
  repeatable: boolean;
}

/** Starts builds, or finds the one that makes the same for everybody already. */
@Injectable()
export class BuildLauncher {
  constructor(
    private readonly builds: TemplateBuildRepository,
    private readonly templates: TemplateRepository,
    private readonly secrets: SandboxRepository,
    private readonly starter: BuildStarter,
  ) {}

  /** Resolves with the row of the build that the request gets, which runs or has ended. */
  async launch(request: BuildRequest, body: CreateBuildDto): Promise<TemplateBuildEntity> {
    const reserved = await this.templates.ofPlatform(body.template);
    if (!reserved) return this.buildOwn(request, body);
    refuseUnlessPlain(reserved, body);
    // Under a key the run itself is what a second request finds, so there it decides.
    const same = request.repeatable ? null : await this.builds.warmingEverywhere(reserved, body);
    return same ?? this.warm(request, reserved, body);
  }

  private async buildOwn(request: BuildRequest, body: CreateBuildDto): Promise<TemplateBuildEntity> {
    const { template: name, vcpus, memory_mb: memoryMb } = body;
    const { teamId, buildId } = request;
    const image = body.image ?? DEFAULT_IMAGE;
    const template = await this.templates.ensure({ id: randomId(), teamId, name, image, vcpus, memoryMb });
    await this.start(request, template, body);
    return this.begun(buildId);
  }

  /** The template is the platform's, the build is the team's that asked for it. */
  private async warm(
    request: BuildRequest,
    template: TemplateEntity,
    body: CreateBuildDto,
  ): Promise<TemplateBuildEntity> {
    await this.start(request, template, body);
    try {
      return await this.begun(request.buildId);
    } catch (error) {
      // Two asked at once: where one of a size is made for all, a second one does not begin.
      const same = error instanceof DomainError ? error.details['build_id'] : undefined;
      const row = typeof same === 'string' && same !== request.buildId ? await this.builds.findAny(same) : null;
      if (row) return row;
      throw error;
    }
  }

  private async start(
    { teamId, buildId }: BuildRequest,
    template: TemplateEntity,
    body: CreateBuildDto,
  ): Promise<void> {
    const { vcpus, memory_mb: memoryMb, setup } = body;
    const image = body.image ?? template.image;
    await this.secrets.ensureSecret({ id: buildId, teamId, accessToken: newAccessToken(), env: {} });
    await this.starter.start({ buildId, templateId: template.id, teamId, vcpus, memoryMb, image, setup });
  }

  /** The row is written by the build's first step; a build that cannot begin ends without one. */
  private async begun(buildId: string): Promise<TemplateBuildEntity> {
    const given = AbortSignal.timeout(BEGIN_LIMIT_MS);
    const failed = this.starter.ended(buildId, BEGIN_LIMIT_MS).then(
      () => null,
      (error: unknown) => ({ error }),
    );
    while (!given.aborted) {
      const row = await this.builds.findAny(buildId);
      if (row) return row;
      const failure = await Promise.race([failed, delay(LOOK_EVERY_MS, null)]);
      if (!failure) continue;
      // It never was, so there is nothing that the secret could be of.
      await this.secrets.removeUntakenSecret(buildId);
      throw failure.error;
    }
    throw new DomainError(
      'control_plane_unavailable',
      `no control worker began build ${buildId} within ${BEGIN_LIMIT_MS / 1000} s; it is made when one does`,
      { part: 'control-worker', build_id: buildId },
    );
  }
}

/** What everybody starts from under this name must be the same for everybody. */
function refuseUnlessPlain({ image }: TemplateEntity, body: CreateBuildDto): void {
  if (body.setup.length === 0 && (body.image ?? image) === image) return;
  throw new DomainError(
    'invalid_request',
    `template "${body.template}": this name is reserved for the platform, whose template is the image "${image}" without set-up commands; choose another name`,
    { fields: ['template'] },
  );
}
