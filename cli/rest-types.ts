import type { Failure } from '../workflows/contract/errors.js';
import type { BuildState, OperationKind, OperationState, SandboxState } from '../workflows/contract/states.js';

/** The answers of REST v1, as far as the command reads them. */
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/** A failure with what to do about it, as the API shows it. */
export interface RestFailure extends Pick<Failure, 'step' | 'message'> {
  code: string;
  /** How often the step was tried, of an operation that was asked for by id. */
  attempts?: number | null;
  suggestion?: string;
  at?: string;
  operation_id?: string;
}

export interface Sandbox {
  id: string;
  state: SandboxState;
  template: string;
  vcpus: number;
  memory_mb: number;
  timeout_seconds: number;
  on_timeout: 'pause' | 'destroy';
  expires_at: string | null;
  egress: boolean;
  metadata: Record<string, string>;
  host_id: string | null;
  generation: number;
  created_at: string;
  started_at: string | null;
  paused_at: string | null;
  updated_at: string;
  failure: RestFailure | null;
  operation: { id: string; kind: OperationKind } | null;
  access_token?: string;
}

export interface Operation {
  id: string;
  kind: OperationKind;
  sandbox_id: string;
  state: OperationState;
  step: string | null;
  host_id: string | null;
  temporal_url: string | null;
  started_at: string;
  finished_at: string | null;
  duration_ms: number | null;
  retry_of: string | null;
  failure: RestFailure | null;
  progress: {
    stage: string;
    undoing: boolean;
    pending: { activity: string; attempt: number; last_failure: string | null }[];
  } | null;
}

export interface WarmSnapshot {
  build_id: string;
  host_id: string;
  vcpus: number;
  memory_mb: number;
  memory_bytes: number;
  disk_bytes: number;
  hypervisor: string;
  ready_at: string;
}

export interface Template {
  id: string;
  name: string;
  scope: 'platform' | 'team';
  image: string;
  vcpus: number;
  memory_mb: number;
  created_at: string;
  warm: WarmSnapshot[];
}

export interface Build {
  id: string;
  template: string;
  image: string;
  vcpus: number;
  memory_mb: number;
  setup: string[];
  state: BuildState;
  host_id: string | null;
  /** Set-up commands that are done, of `steps`. */
  step: number;
  steps: number;
  temporal_url: string | null;
  started_at: string;
  finished_at: string | null;
  failure: RestFailure | null;
}

export interface Host {
  id: string;
  name: string;
  status: 'online' | 'offline';
  vcpus: number;
  memory_mb: number;
  disk_mb: number;
  reserved: { vcpus: number; memory_mb: number; sandboxes: number };
  hypervisor: string;
  hypervisor_version: string;
  cpu: string;
  drivers: Record<string, string>;
  heartbeat_at: string;
}

export interface SandboxEvent {
  id: string | number;
  type: string;
  at: string;
  operation_id: string | null;
  data: Record<string, unknown>;
}

export interface ExecRequest {
  command?: string;
  argv?: string[];
  cwd?: string;
  env?: Record<string, string>;
  user?: string;
  stdin_base64?: string;
  timeout_seconds?: number;
  max_output_bytes?: number;
}

export interface ExecResult {
  exit_code: number;
  stdout: string;
  stderr: string;
  encoding: 'utf-8' | 'base64';
  duration_ms: number;
  truncated: boolean;
  timed_out: boolean;
}

export interface CreateRequest {
  template?: string;
  vcpus?: number;
  memory_mb?: number;
  timeout_seconds?: number;
  on_timeout?: 'pause' | 'destroy';
  metadata?: Record<string, string>;
  env?: Record<string, string>;
  egress?: boolean;
  cold?: boolean;
}

export interface BuildRequest {
  template: string;
  image?: string;
  vcpus?: number;
  memory_mb?: number;
  setup?: string[];
}
