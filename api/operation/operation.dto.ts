import { IsOptional, IsString, Matches, MaxLength } from 'class-validator';
import { ERRORS, type ErrorCode } from '../../workflows/contract/errors.js';
import { ID_PATTERN, sandboxWorkflowId } from '../../workflows/contract/ids.js';
import {
  OPERATION_KINDS,
  OPERATION_STATES,
  type OperationKind,
  type OperationState,
} from '../../workflows/contract/states.js';
import { listOf } from '../http/list-of.js';
import { PageQuery } from '../http/page.dto.js';
import type { OperationEntity } from './operation.entity.js';

export class OperationQuery extends PageQuery {
  /** Operations of this sandbox only. */
  @IsOptional()
  @IsString()
  @Matches(ID_PATTERN, { message: 'sandbox_id must be an id of a sandbox: 1 to 40 lower-case letters and digits' })
  sandbox_id?: string;

  /** Comma-separated states. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  @Matches(listOf(OPERATION_STATES), {
    message: `state must be a comma-separated list of ${OPERATION_STATES.join(', ')}`,
  })
  state?: string;

  /** Comma-separated kinds. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  @Matches(listOf(OPERATION_KINDS), { message: `kind must be a comma-separated list of ${OPERATION_KINDS.join(', ')}` })
  kind?: string;
}

export class OperationFailureDto {
  /** The step that failed, by its activity name. */
  step!: string;

  code!: ErrorCode;

  /** How often the step was tried; 0: no worker of the host took it. Of an operation that is asked for by id. */
  attempts!: number | null;

  /** What failed, on which host, why. */
  message!: string;

  suggestion!: string;

  /** Undo steps that failed too: somebody must look. */
  needs_attention?: string[];
}

export class PendingStepDto {
  activity!: string;

  /** 1 is the first. */
  attempt!: number;

  last_failure!: string | null;
}

export class OperationProgressDto {
  stage!: string;

  undoing!: boolean;

  /** It can only go forward from here: its steps are tried until they succeed. */
  committed!: boolean;

  /** Steps that are under way or wait for their next attempt. */
  pending!: PendingStepDto[];
}

export class OperationDto {
  id!: string;
  kind!: OperationKind;
  sandbox_id!: string;
  state!: OperationState;

  /** The step that is under way, or the one that failed. */
  step!: string | null;

  /** Where its steps run. */
  host_id!: string | null;

  /** Fencing number: what an older one still sends is refused. */
  epoch!: number;

  workflow_id!: string;
  run_id!: string;

  /** The run in the Temporal UI. */
  temporal_url!: string | null;

  started_at!: string;
  finished_at!: string | null;
  duration_ms!: number | null;

  /** The failed operation that this one repeats. */
  retry_of!: string | null;

  failure!: OperationFailureDto | null;

  /** Of a running operation, when one is asked for by id. */
  progress!: OperationProgressDto | null;
}

/** What Temporal knows beyond the row. */
const NOT_ASKED = { progress: null, attempts: null };

export function toOperationDto(
  row: OperationEntity,
  links: (workflowId: string, runId: string) => string | null,
  { progress, attempts }: { progress: OperationProgressDto | null; attempts: number | null } = NOT_ASKED,
): OperationDto {
  const workflowId = sandboxWorkflowId(row.sandboxId);
  return {
    id: row.id,
    kind: row.kind,
    sandbox_id: row.sandboxId,
    state: row.state,
    step: progress?.stage ?? row.step,
    host_id: row.hostId,
    epoch: row.epoch,
    workflow_id: workflowId,
    run_id: row.runId,
    temporal_url: links(workflowId, row.runId),
    started_at: row.startedAt.toISOString(),
    finished_at: row.finishedAt?.toISOString() ?? null,
    duration_ms: row.finishedAt ? row.finishedAt.getTime() - row.startedAt.getTime() : null,
    retry_of: row.retryOf,
    failure: toFailureDto(row.failure, attempts),
    progress,
  };
}

export function toFailureDto(
  failure: OperationEntity['failure'],
  attempts: number | null = null,
): OperationFailureDto | null {
  if (!failure) return null;
  const { step, code, message, needsAttention } = failure;
  return {
    step,
    code,
    attempts,
    message,
    suggestion: ERRORS[code].suggestion,
    ...(needsAttention ? { needs_attention: needsAttention } : {}),
  };
}
