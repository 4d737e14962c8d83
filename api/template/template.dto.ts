import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsInt,
  IsNotEmpty,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
} from 'class-validator';
import { Type } from 'class-transformer';
import { TEMPLATE_NAME_PATTERN, buildWorkflowId } from '../../workflows/contract/ids.js';
import { BUILD_STATES, type BuildState } from '../../workflows/contract/states.js';
import { PageQuery } from '../http/page.dto.js';
import { OperationFailureDto, toFailureDto } from '../operation/operation.dto.js';
import { MAX_MEMORY_MB, MAX_VCPUS, MIN_MEMORY_MB } from '../sandbox/sandbox.dto.js';
import { PLATFORM_TEAM_ID } from '../team/team.entity.js';
import type { TemplateBuildEntity } from './template-build.entity.js';
import type { TemplateEntity } from './template.entity.js';

const TEMPLATE_NAME_RULE =
  'must be the name of a template: a letter or digit, then up to 63 of letters, digits, ".", "_", "-"';

export class CreateBuildDto {
  /** Name; the template is made when your team has none of this name. The platform's names are reserved for its own. */
  @IsString()
  @Matches(TEMPLATE_NAME_PATTERN, { message: `template ${TEMPLATE_NAME_RULE}` })
  template!: string;

  /** Root filesystem of the hosts' catalogue that it starts from. Default: the template's; of a new one, `minimal`. */
  @IsOptional()
  @IsString()
  @Matches(TEMPLATE_NAME_PATTERN, { message: 'image must be the name of a root filesystem of a host, like "minimal"' })
  image?: string;

  /** Sandboxes of this size are restored from the build's memory; others boot from its disk. */
  @IsInt()
  @Min(1)
  @Max(MAX_VCPUS)
  vcpus: number = 1;

  @IsInt()
  @Min(MIN_MEMORY_MB)
  @Max(MAX_MEMORY_MB)
  memory_mb: number = 512;

  /** Shell commands, run as root in order; one that fails fails the build. */
  @IsArray()
  @ArrayMaxSize(100)
  @IsString({ each: true })
  @IsNotEmpty({ each: true })
  @MaxLength(65_536, { each: true })
  setup: string[] = [];
}

export class BuildQuery extends PageQuery {
  /** Builds of this template only, by name or id. */
  @IsOptional()
  @IsString()
  @Matches(TEMPLATE_NAME_PATTERN, { message: `template ${TEMPLATE_NAME_RULE}` })
  template?: string;

  @IsOptional()
  @IsIn(BUILD_STATES)
  state?: BuildState;
}

export class BuildLogQuery {
  /** Bytes to leave out at the beginning: what was read before. */
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(0)
  offset: number = 0;
}

export class BuildArtefactDto {
  memory_bytes!: number;
  disk_bytes!: number;
  hypervisor!: string;
  cpu!: string;
}

export class BuildDto {
  id!: string;

  /** Name. */
  template!: string;

  image!: string;
  vcpus!: number;
  memory_mb!: number;
  setup!: string[];
  state!: BuildState;

  /** The host that makes it, and has it when it is ready. */
  host_id!: string;

  /** Set-up commands that have run. */
  step!: number;

  /** Set-up commands in all. */
  steps!: number;

  workflow_id!: string;
  run_id!: string;
  temporal_url!: string | null;
  started_at!: string;
  finished_at!: string | null;
  failure!: OperationFailureDto | null;
  artefact!: BuildArtefactDto | null;
}

/** A saved memory that sandboxes of its size are restored from. */
export class WarmBuildDto {
  build_id!: string;
  host_id!: string;
  vcpus!: number;
  memory_mb!: number;
  memory_bytes!: number;
  disk_bytes!: number;
  hypervisor!: string;
  ready_at!: string;
}

export class TemplateDto {
  id!: string;
  name!: string;

  /** `platform`: everybody's. */
  scope!: 'platform' | 'team';

  image!: string;

  /** Size of a sandbox whose request names none. */
  vcpus!: number;
  memory_mb!: number;
  created_at!: string;
  warm!: WarmBuildDto[];
}

export function toBuildDto(
  row: TemplateBuildEntity,
  template: string,
  links: (workflowId: string, runId: string) => string | null,
): BuildDto {
  const { artefact } = row;
  const workflowId = buildWorkflowId(row.id);
  return {
    id: row.id,
    template,
    image: row.image,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    setup: row.setup,
    state: row.state,
    host_id: row.hostId,
    step: row.stepsDone,
    steps: row.setup.length,
    workflow_id: workflowId,
    run_id: row.runId,
    temporal_url: links(workflowId, row.runId),
    started_at: row.startedAt.toISOString(),
    finished_at: row.finishedAt?.toISOString() ?? null,
    failure: toFailureDto(row.failure),
    artefact: artefact && {
      memory_bytes: artefact.memoryBytes,
      disk_bytes: artefact.diskBytes,
      hypervisor: artefact.hypervisor,
      cpu: artefact.cpu,
    },
  };
}

export function toTemplateDto(row: TemplateEntity, ready: readonly TemplateBuildEntity[]): TemplateDto {
  return {
    id: row.id,
    name: row.name,
    scope: row.teamId === PLATFORM_TEAM_ID ? 'platform' : 'team',
    image: row.image,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    created_at: row.createdAt.toISOString(),
    warm: ready.flatMap((build) => toWarmDto(build) ?? []),
  };
}

function toWarmDto({ id, hostId, vcpus, memoryMb, artefact, finishedAt }: TemplateBuildEntity): WarmBuildDto | null {
  if (!artefact || !finishedAt) return null;
  return {
    build_id: id,
    host_id: hostId,
    vcpus,
    memory_mb: memoryMb,
    memory_bytes: artefact.memoryBytes,
    disk_bytes: artefact.diskBytes,
    hypervisor: artefact.hypervisor,
    ready_at: finishedAt.toISOString(),
  };
}
