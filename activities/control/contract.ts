import type { Failure } from '../../workflows/contract/errors.js';
import type { Finding, Reconciled } from '../../workflows/contract/findings.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type {
  CreateSandboxInput,
  MemoryLossPolicy,
  OperationInput,
  RecoverSandboxInput,
  TemplateBuildInput,
  UpdateNetworkInput,
} from '../../workflows/contract/operations.js';
import type { OperationKind, OperationState, SandboxState } from '../../workflows/contract/states.js';
import type { BuildArtefact, DiskSource, Holding, SnapshotInfo, VmBoot } from '../host/contract.js';

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
  /** Absent in claims of runs that began before there were policies. */
  network?: NetworkPolicy;
  /** Newest recorded memory snapshot; 0 = none yet. */
  generation: number;
}

/** What a change of the network policy works with: beside the policy that counts until it has succeeded, where the sandbox is. */
export interface NetworkClaim extends Claim {
  was: 'running' | 'paused';
}

/** What a recovery works with once it has taken the sandbox. */
export interface RecoverClaim extends Claim {
  /** What the row said before. Of a recovery that takes over from one that did not get to an end: what that one found. */
  was: SandboxState;
  /**
   * The operation that left the sandbox as it is, with its epoch; null when there was none. Either its row is still open,
   * because it was ended from outside, or it closed without success and left the sandbox `missing`, because its host was
   * away for its undo. Where that was a recovery itself, what that one found: it may have changed nothing yet.
   */
  interrupted: { kind: OperationKind; epoch: number } | null;
  onMemoryLoss: MemoryLossPolicy;
  /**
   * It goes on with what an earlier recovery did not end: `was` and `interrupted` are what that one found, and a VM that
   * is there may be one that it was still booting.
   */
  again?: true;
}

/** How a host's lease stands. */
export type Lease =
  /** Nobody needs to watch it: the host is not known. */
  | { state: 'gone' }
  /** Heartbeats come. `checkInMs`: when it is worth looking again. */
  | { state: 'held'; checkInMs: number }
  /** It ran out: the host's sandboxes are `missing`. */
  | { state: 'lost'; checkInMs: number }
  /** Heartbeats come again after it ran out; it stays so until `endLoss`. */
  | { state: 'returned' };

/** A sandbox's row, as far as a comparison with its host needs it. */
export interface SurveyedSandbox {
  id: string;
  epoch: number;
  state: SandboxState;
  /** An operation is open on it, by its row. */
  open: boolean;
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
  /** Null: it stays what it is. */
  sandbox: SandboxState | null;
  failure?: Failure;
  /** For the events: how what was asked for was done otherwise, and why. */
  note?: string;
  /** The guest's memory is gone and it was booted from its disk: stated on the sandbox until it ends. */
  memoryLost?: { reason: string };
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
  claim(
    input: OperationInput &
      RunRef & { kind: Exclude<OperationKind, 'create' | 'recover' | 'network'>; reason?: string },
  ): Promise<Claim>;
  /** As `claim`, for a new network policy; the row has it once the operation has succeeded. */
  claimNetwork(input: UpdateNetworkInput & RunRef): Promise<NetworkClaim>;
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

  /** Takes the sandbox for a recovery. `state_conflict` when it has moved on since `ifEpoch`. */
  claimRecovery(input: RecoverSandboxInput & RunRef): Promise<RecoverClaim>;

  /** Looks at a host's lease. Where it ran out, the host counts as lost and its sandboxes become `missing`. */
  checkLease(input: { hostId: string }): Promise<Lease>;
  /** The host is back and its sandboxes are compared with what it holds. */
  endLoss(input: { hostId: string }): Promise<void>;

  /** Hosts that have anything to compare, and whether their lease is held. */
  surveyHosts(): Promise<{ id: string; online: boolean }[]>;
  /** All sandboxes of a host that are not stopped; `null`: those that never reached one. */
  surveySandboxes(input: { hostId: string | null }): Promise<SurveyedSandbox[]>;
  /**
   * What is not as it should be. `before` was read before the host was asked: only what has not moved since then counts.
   * Without `holdings` the host could not be asked, and only rows and runs are compared.
   */
  compareHost(input: {
    hostId: string | null;
    before: SurveyedSandbox[];
    holdings: Holding[] | null;
  }): Promise<Finding[]>;
  /** Mends what the control plane can mend, everything but orphans. Heartbeats. */
  repair(input: { findings: Finding[]; reason: string }): Promise<Reconciled[]>;
  /** Orphans whose grace period is over, of those found; remembers when the others were first seen. */
  ripeOrphans(input: { findings: Finding[]; unknown: boolean }): Promise<{ ripe: string[]; waiting: Reconciled[] }>;
  /** Writes what was found, with before and after, to the events of sandboxes and the log of reconciliations. */
  recordFindings(input: RunRef & { findings: Reconciled[] }): Promise<void>;

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
