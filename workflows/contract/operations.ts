import type { Failure } from './errors.js';
import type { NetworkPolicy } from './network-policy.js';
import type { OperationKind } from './states.js';

/** What the caller asked for. Secrets (environment, tokens) are never part of it: they stay in the database. */
export interface SandboxSpec {
  templateId: string;
  vcpus: number;
  memoryMb: number;
  /** Idle seconds until `onTimeout` happens; 0 = never. */
  timeoutSeconds: number;
  onTimeout: 'pause' | 'destroy';
  egress: boolean;
  /** What its guest may send; absent: everything or nothing, as `egress` says. */
  network?: NetworkPolicy;
  metadata: Record<string, string>;
  /** Boot from the disk even where a warm snapshot of this template and size exists. */
  cold: boolean;
  /** What happens when its memory is lost with its host: boot from the disk, or wait in `error` for somebody to decide. */
  onMemoryLoss: MemoryLossPolicy;
}

export type MemoryLossPolicy = 'reboot' | 'error';

/** Durations that operators never set and tests shorten. Milliseconds. */
export interface Timing {
  /** First pause between attempts of a step. */
  retryInitialMs: number;
  /** How often a step is tried before it counts as failed. */
  stepAttempts: number;
  /** How long a step may wait for its host to take it; longer than a restart of the host worker. */
  hostPickupMs: number;
  /** One attempt of a step that moves no memory. */
  stepMs: number;
  /** One attempt of a step that reads or writes a whole memory image, or boots. */
  longStepMs: number;
  heartbeatMs: number;
  /** How long one undo is retried before it is recorded as needing attention. */
  undoMs: number;
  /** Longest pause between attempts of a step that may only go forward. */
  forwardRetryMaxMs: number;
}

export interface OperationInput {
  opId: string;
  sandboxId: string;
  teamId: string;
  timing?: Partial<Timing>;
}

export interface CreateSandboxInput extends OperationInput {
  spec: SandboxSpec;
}

export interface DestroySandboxInput extends OperationInput {
  /** Why, as the events show it: `requested`, `timeout`. */
  reason: string;
}

/** Gives a sandbox another network policy, in place of the one that it has. */
export interface UpdateNetworkInput extends OperationInput {
  network: NetworkPolicy;
}

/** Finds out what became of a sandbox and puts it where it can go on. */
export interface RecoverSandboxInput extends OperationInput {
  /** Why, as the events show it: `requested`, `host_returned`, `reconciler`. */
  reason: string;
  /** The sandbox as whoever asks saw it; a sandbox that has moved on since is left alone. Absent: whatever it is. */
  ifEpoch?: number;
  /** Boot from the disk where the memory is lost, whatever the sandbox's own policy says. */
  boot: boolean;
  /** Give up the saved memory of a paused sandbox. Without it a paused sandbox is refused. */
  discardMemory: boolean;
}

export interface HostWatchInput {
  hostId: string;
}

export interface ReconcileInput {
  /** Look, and change nothing. */
  dryRun: boolean;
  /** Also remove what hosts hold of ids that this database never knew. Never without a person who says so. */
  removeUnknown: boolean;
}

export interface SandboxTtlInput {
  sandboxId: string;
  /** First pause after a failed attempt to pause or destroy; doubles up to twenty times this. */
  retryInitialMs?: number;
}

export interface TemplateBuildInput {
  buildId: string;
  templateId: string;
  teamId: string;
  vcpus: number;
  memoryMb: number;
  /** Name of the base root filesystem in the host's image catalogue. */
  image: string;
  /** Shell commands run as root in the guest, in order; a non-zero exit fails the build. */
  setup: string[];
  timing?: Partial<Timing>;
}

/** Answer of the `accepted` update: the run has taken the sandbox. */
export interface Accepted {
  opId: string;
  kind: OperationKind;
  epoch: number;
}

/** Answer of the `settled` update: how the operation ended. */
export interface Settled extends Accepted {
  failure?: Failure;
}

/** Workflow types, as operators see them in the Temporal UI. */
export const WORKFLOW_OF = {
  create: 'CreateSandbox',
  pause: 'PauseSandbox',
  resume: 'ResumeSandbox',
  recover: 'RecoverSandbox',
  network: 'UpdateNetwork',
  destroy: 'DestroySandbox',
} as const satisfies Record<OperationKind, string>;

export const TTL_WORKFLOW = 'SandboxTtl';
export const BUILD_WORKFLOW = 'TemplateBuild';
export const HOST_WATCH_WORKFLOW = 'HostWatch';
export const RECONCILE_WORKFLOW = 'Reconcile';

/** Update: resolves when the first step has taken the sandbox, rejects when it could not. */
export const ACCEPTED_UPDATE = 'accepted';
/** Update: resolves when the row says how the operation ended, failures included. */
export const SETTLED_UPDATE = 'settled';
/** Signal to any operation: undo what you did and go on as destroy, without releasing the lock. */
export const REQUEST_DESTROY_SIGNAL = 'requestDestroy';
/** Signal to the keeper of a timeout: the deadline moved closer, read it again. */
export const REARM_SIGNAL = 'rearm';
/** Query of any operation: what it does now. */
export const PROGRESS_QUERY = 'progress';

export interface Progress {
  stage: string;
  undoing: boolean;
  committed: boolean;
}
