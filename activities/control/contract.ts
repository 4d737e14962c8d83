import type { Failure } from '../../workflows/contract/errors.js';
import type { CreateSandboxInput, OperationInput, TemplateBuildInput } from '../../workflows/contract/operations.js';
import type { OperationKind, OperationState, SandboxState } from '../../workflows/contract/states.js';
import type { BuildArtefact, DiskSource, SnapshotInfo, VmBoot } from '../host/contract.js';

/** What a create works with once it is claimed and placed. */
export interface Placement {
  epoch: number;
  hostId: string;
  disk: DiskSource;
  boot: VmBoot;
}

/** What any later operation on a sandbox works with once it is claimed. */
export interface Claim {
  epoch: number;
  /** Null when the sandbox never reached a host: nothing is to be done there. */
  hostId: string | null;
  vcpus: number;
  memoryMb: number;
  egress: boolean;
  /** Newest recorded memory snapshot; 0 = none yet. */
  generation: number;
}

export interface RunRef {
  /** Temporal run that acts. The same run claiming twice gets the same answer; another run gets `stale_operation`. */
  runId: string;
}

export interface SettleInput {
  sandboxId: string;
  opId: string;
  epoch: number;
  operation: Exclude<OperationState, 'running'>;
  sandbox: SandboxState;
  failure?: Failure;
}

export interface Deadline {
  state: SandboxState | null;
  /** Milliseconds since 1970; null = no timeout. */
  expiresAt: number | null;
  onTimeout: 'pause' | 'destroy';
}

/** How the operation that a timeout started ended. */
export interface ExpiryOutcome {
  done: boolean;
  message: string;
}

/** The activities that touch Postgres; on queue `control`, most of them as local activities. */
export interface ControlActivities {
  /** Writes the sandbox's row in `starting` with the operation and its epoch, chooses a host and reserves it. */
  claimAndPlace(input: CreateSandboxInput & RunRef): Promise<Placement>;
  /** The host did not take the sandbox: reserve another one. `no_hosts_available` when there is none. */
  placeElsewhere(input: { sandboxId: string; epoch: number; notHosts: string[] }): Promise<Placement>;
  /** Takes the epoch by compare-and-set, moves the state, opens the operation. `state_conflict` when the state forbids it. */
  claim(input: OperationInput & RunRef & { kind: Exclude<OperationKind, 'create'>; reason?: string }): Promise<Claim>;
  /** The commit point of pause: from here on the snapshot counts. */
  recordGeneration(input: { sandboxId: string; epoch: number; snapshot: SnapshotInfo }): Promise<void>;
  /** Closes operation and epoch and writes where the sandbox is now, in one transaction. */
  settle(input: SettleInput): Promise<void>;
  /** Starts the keeper of the sandbox's timeout, or tells the one that is there to read again. */
  armTtl(input: { sandboxId: string }): Promise<void>;

  readDeadline(input: { sandboxId: string }): Promise<Deadline>;
  /** Starts the pause or destroy that is due and waits for it. Heartbeats. */
  expire(input: { sandboxId: string; onTimeout: 'pause' | 'destroy' }): Promise<ExpiryOutcome>;
  /** Tells, in the sandbox's events, that a timeout could not be carried out and when it is tried again. */
  noteExpiryFailure(input: { sandboxId: string; message: string; retryAt: number }): Promise<void>;

  /** Opens the build and chooses the host that makes it. */
  beginBuild(input: TemplateBuildInput & RunRef): Promise<{ hostId: string; epoch: number }>;
  appendBuildLog(input: { buildId: string; step: number; text: string }): Promise<void>;
  finishBuild(input: {
    buildId: string;
    state: 'ready' | 'failed' | 'cancelled';
    artefact?: BuildArtefact;
    failure?: Failure;
  }): Promise<void>;
}
