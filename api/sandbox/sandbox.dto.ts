import { Type } from 'class-transformer';
import {
  IsBoolean,
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import type { ErrorCode } from '../../workflows/contract/errors.js';
import { TEMPLATE_NAME_PATTERN } from '../../workflows/contract/ids.js';
import { SANDBOX_STATES, type OperationKind, type SandboxState } from '../../workflows/contract/states.js';
import { IsStringMap } from '../http/is-string-map.js';
import { listOf } from '../http/list-of.js';
import { PageQuery } from '../http/page.dto.js';
import { CreateNetworkDto, NetworkPolicyDto } from './network.dto.js';

export const MAX_VCPUS = 64;
export const MIN_MEMORY_MB = 128;
export const MAX_MEMORY_MB = 262_144;
/** A year. */
const MAX_TIMEOUT_SECONDS = 31_536_000;
const TEMPLATE_NAME_RULE =
  'must be the name of a template: a letter or digit, then up to 63 of letters, digits, ".", "_", "-"';

export class CreateSandboxDto {
  /** Name or id of a template. */
  @IsString()
  @Matches(TEMPLATE_NAME_PATTERN, { message: `template ${TEMPLATE_NAME_RULE}` })
  template: string = 'minimal';

  /** Default: the template's. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(MAX_VCPUS)
  vcpus?: number;

  /** MiB. Default: the template's. */
  @IsOptional()
  @IsInt()
  @Min(MIN_MEMORY_MB)
  @Max(MAX_MEMORY_MB)
  memory_mb?: number;

  /** Idle seconds until `on_timeout` happens; 0 = never. Exec and ping count as activity. */
  @IsInt()
  @Min(0)
  @Max(MAX_TIMEOUT_SECONDS)
  timeout_seconds: number = 0;

  @IsIn(['pause', 'destroy'])
  on_timeout: 'pause' | 'destroy' = 'pause';

  /** When its memory is lost with its host: boot it from its disk, or leave it in `error` until you decide. */
  @IsIn(['reboot', 'error'])
  on_memory_loss: 'reboot' | 'error' = 'reboot';

  /** Your own labels, up to 50, to find the sandbox by. */
  @IsStringMap({ maxKeys: 50, maxKeyLength: 64, maxValueLength: 512 })
  metadata: Record<string, string> = {};

  /** Environment of every program in it; 64 KiB in all. Never shown again. */
  @IsStringMap({ keyPattern: /^[A-Za-z_][A-Za-z0-9_]*$/, maxTotalBytes: 65_536 })
  env: Record<string, string> = {};

  /** Whether it reaches the network beyond its host: short for `network.egress`. Default: true. */
  @IsOptional()
  @IsBoolean()
  egress?: boolean;

  /** What it may send. */
  @IsOptional()
  @ValidateNested({ message: 'network must be an object: {"egress"?, "allow"?, "deny"?, "dns"?, "tx_mbps"?}' })
  @Type(() => CreateNetworkDto)
  network?: CreateNetworkDto;

  /** Boot from the disk even where a warm snapshot of the template exists. */
  @IsBoolean()
  cold: boolean = false;
}

export class ResumeSandboxDto {
  /** Changes the timeout, from this resume on. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MAX_TIMEOUT_SECONDS)
  timeout_seconds?: number;
}

export class RecoverSandboxDto {
  /** Give up the saved memory of a paused sandbox, and boot it from its disk. */
  @IsBoolean()
  discard_memory: boolean = false;
}

export class SetTimeoutDto {
  /** From now; 0 = never. */
  @IsInt()
  @Min(0)
  @Max(MAX_TIMEOUT_SECONDS)
  timeout_seconds!: number;

  @IsOptional()
  @IsIn(['pause', 'destroy'])
  on_timeout?: 'pause' | 'destroy';
}

export class SandboxQuery extends PageQuery {
  /** Comma-separated states. Default: all but `stopped`. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  @Matches(listOf(SANDBOX_STATES), { message: `state must be a comma-separated list of ${SANDBOX_STATES.join(', ')}` })
  state?: string;

  /** Sandboxes of this template only, by name or id. */
  @IsOptional()
  @IsString()
  @Matches(TEMPLATE_NAME_PATTERN, { message: `template ${TEMPLATE_NAME_RULE}` })
  template?: string;

  /** `metadata[key]=value`: sandboxes with this label only; all that are given must match. */
  @IsOptional()
  @IsObject()
  @IsStringMap({ maxKeys: 50, maxKeyLength: 64, maxValueLength: 512 })
  metadata?: Record<string, string>;
}

export class ConsoleQuery {
  /** How much of the end is wanted. */
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(1_048_576)
  max_bytes: number = 65_536;
}

export class MemoryLostDto {
  at!: string;
  reason!: string;

  /** The recovery that booted it from its disk. */
  operation_id!: string;
}

export class SandboxFailureDto {
  /** Null when a reconciliation found it so. */
  operation_id!: string | null;

  /** The step that failed, by its activity name. */
  step!: string;

  code!: ErrorCode;
  message!: string;
  suggestion!: string;
  at!: string;
}

export class OpenOperationDto {
  id!: string;
  kind!: OperationKind;
}

export class SandboxDto {
  id!: string;
  state!: SandboxState;

  /** Name. */
  template!: string;

  vcpus!: number;
  memory_mb!: number;
  timeout_seconds!: number;
  on_timeout!: 'pause' | 'destroy';
  on_memory_loss!: 'reboot' | 'error';

  /** The newest time that what its guest had in memory was lost and it was booted from its disk. */
  memory_lost!: MemoryLostDto | null;

  /** When `on_timeout` happens unless it is used before. */
  expires_at!: string | null;

  /** `network.egress`. */
  egress!: boolean;

  /** What it may send; of one whose policy is being changed, the one that it had. */
  network!: NetworkPolicyDto;

  metadata!: Record<string, string>;
  host_id!: string | null;

  /** Newest memory snapshot; 0 = never paused. */
  generation!: number;

  created_at!: string;

  /** When it last began to run. */
  started_at!: string | null;

  paused_at!: string | null;
  updated_at!: string;

  /** Why it is in `error`, or what its last operation failed with. */
  failure!: SandboxFailureDto | null;

  /** In `error` and `missing`: what can be done. */
  next_steps!: string | null;

  /** The operation that is under way. */
  operation!: OpenOperationDto | null;

  /** Of the agent in the guest, for its header X-Access-Token. Not in lists. */
  access_token?: string;
}

export class PingDto {
  expires_at!: string | null;
}

export class SandboxEventDto {
  id!: string;

  /** E.g. `pause.started`, `pause.failed`, `network.succeeded`, `snapshot.recorded`, `timeout.changed`, `host.lost`, `reconciled`. */
  type!: string;

  at!: string;
  operation_id!: string | null;
  data!: Record<string, unknown>;
}
