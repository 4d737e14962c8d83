import type { Failure } from '../workflows/contract/errors.js';
import type { FindingKind, Reconciled } from '../workflows/contract/findings.js';
import type { MemoryLossPolicy } from '../workflows/contract/operations.js';
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
  /** Undo steps that failed too. */
  needs_attention?: string[];
  at?: string;
  operation_id?: string | null;
}

export interface Sandbox {
  id: string;
  state: SandboxState;
  template: string;
  vcpus: number;
  memory_mb: number;
  timeout_seconds: number;
  on_timeout: 'pause' | 'destroy';
  on_memory_loss: MemoryLossPolicy;
  /** The newest loss: it runs, but what it had in memory before is gone. */
  memory_lost: { at: string; reason: string; operation_id: string } | null;
  /** In `error` and `missing`. */
  next_steps: string | null;
  expires_at: string | null;
  egress: boolean;
  network: NetworkPolicy;
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

export interface Destination {
  cidr: string;
  ports?: string;
  protocol?: 'tcp' | 'udp';
}

export interface NetworkPolicy {
  egress: boolean;
  allow: Destination[];
  deny: Destination[];
  /** Null: as everything else. */
  dns: boolean | null;
  tx_mbps: number | null;
}

export interface SandboxNetwork {
  policy: NetworkPolicy;
  counters: {
    sent_bytes: number;
    sent_packets: number;
    received_bytes: number;
    received_packets: number;
    denied_packets: number;
  } | null;
  /** Why there are none. */
  counters_note: string | null;
}

export interface Operation {
  id: string;
  kind: OperationKind;
  sandbox_id: string;
  state: OperationState;
  step: string | null;
  host_id: string | null;
  run_id: string;
  temporal_url: string | null;
  started_at: string;
  finished_at: string | null;
  duration_ms: number | null;
  retry_of: string | null;
  failure: RestFailure | null;
  progress: {
    stage: string;
    undoing: boolean;
    /** It can only go forward. */
    committed: boolean;
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
  /** Since when its sandboxes are `missing`. */
  lost_at: string | null;
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
  network?: Partial<NetworkPolicy>;
  cold?: boolean;
  on_memory_loss?: MemoryLossPolicy;
}

export interface BuildRequest {
  template: string;
  image?: string;
  vcpus?: number;
  memory_mb?: number;
  setup?: string[];
}

/** Something that was not as it should be, and what became of it. */
export interface Finding {
  kind: FindingKind;
  host_id: string | null;
  sandbox_id: string | null;
  outcome: Reconciled['outcome'];
  before: Record<string, unknown>;
  after: Record<string, unknown>;
}

export interface LoggedFinding extends Finding {
  id: string;
  at: string;
}

export interface ReconcileReport {
  dry_run: boolean;
  hosts: { asked: number; answered: number };
  sandboxes: number;
  findings: Finding[];
}
