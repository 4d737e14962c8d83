import type { ErrorCode, Failure } from '../../workflows/contract/errors.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { MemoryLossPolicy, TemplateBuildInput } from '../../workflows/contract/operations.js';
import type { BuildState, OperationKind, OperationState, SandboxState } from '../../workflows/contract/states.js';
import type { BuildArtefact, DiskSource, VmBoot } from '../host/contract.js';
import type { HostLease, SurveyStore } from './survey-ports.js';

/** Why a sandbox is not what it should be, as its row tells it. */
export interface SandboxFailure {
  /** Null when no operation failed: a reconciliation found it so. */
  operationId: string | null;
  step: string;
  code: ErrorCode;
  message: string;
  suggestion: string;
  /** ISO 8601. */
  at: string;
}

/** The guest's memory was lost and it was booted from its disk, as the sandbox's row tells it. */
export interface MemoryLoss {
  /** ISO 8601. */
  at: string;
  reason: string;
  operationId: string;
}

export interface SandboxRecord {
  id: string;
  teamId: string;
  templateId: string;
  hostId: string | null;
  state: SandboxState;
  epoch: number;
  vcpus: number;
  memoryMb: number;
  timeoutSeconds: number;
  onTimeout: 'pause' | 'destroy';
  expiresAt: Date | null;
  egress: boolean;
  /** Null in rows that were written before there were policies. */
  network: NetworkPolicy | null;
  cold: boolean;
  metadata: Record<string, string>;
  onMemoryLoss: MemoryLossPolicy;
  generation: number;
  memoryLost: MemoryLoss | null;
  failure: SandboxFailure | null;
  startedAt: Date | null;
  pausedAt: Date | null;
  stoppedAt: Date | null;
}

/** What a create was told to boot from. */
export interface StoredPlacement {
  disk: DiskSource;
  boot: VmBoot;
}

/** What a recovery found when it took its sandbox. */
export interface RecoveryOrigin {
  was: SandboxState;
  interrupted: { kind: OperationKind; epoch: number } | null;
  /** It goes on with what an earlier recovery did not end. */
  again: boolean;
}

export interface OperationRecord {
  id: string;
  kind: OperationKind;
  sandboxId: string;
  teamId: string;
  /** Where its steps run; null when the sandbox never reached a host. */
  hostId: string | null;
  runId: string;
  state: OperationState;
  step: string | null;
  epoch: number;
  reason: string | null;
  placement: StoredPlacement | null;
  origin: RecoveryOrigin | null;
  /** Policy that a change of the network is to bring. */
  network: NetworkPolicy | null;
  failure: Failure | null;
  finishedAt: Date | null;
}

export interface TemplateRecord {
  id: string;
  teamId: string;
  /** Every team may use it. */
  platform: boolean;
  name: string;
  image: string;
}

/** A host whose lease is held, and what is promised of it. Other hosts are never asked for. */
export interface HostLoad {
  id: string;
  name: string;
  vcpus: number;
  memoryMb: number;
  reservedVcpus: number;
  reservedMemoryMb: number;
  hypervisor: string;
  hypervisorVersion: string;
  /** Processor that its guests see. */
  cpu: string;
  /** Name of its disk driver. */
  disk: string;
  /** Root filesystems that it can boot without a build. */
  images: string[];
}

export interface BuildRecord {
  id: string;
  teamId: string;
  templateId: string;
  hostId: string;
  epoch: number;
  runId: string;
  state: BuildState;
  image: string;
  vcpus: number;
  memoryMb: number;
  setup: string[];
  /** What it left on its host; null until it is ready. */
  artefact: BuildArtefact | null;
  finishedAt: Date | null;
}

export interface SandboxEvent {
  sandboxId: string;
  teamId: string;
  type: string;
  operationId: string | null;
  data: Record<string, unknown>;
}

/**
 * Where the control activities keep what they know. Everything that one activity
 * changes is changed in one transaction; `lock*` makes concurrent transactions on the
 * same thing wait for one another until they end.
 */
export interface ControlStore {
  transaction<T>(work: (tx: ControlTransaction) => Promise<T>): Promise<T>;
  findSandbox(id: string): Promise<SandboxRecord | null>;
  findOperation(id: string): Promise<OperationRecord | null>;
  readonly survey: SurveyStore;
}

export interface ControlTransaction {
  lockSandbox(id: string): Promise<SandboxRecord | null>;
  insertSandbox(sandbox: SandboxRecord): Promise<void>;
  updateSandbox(id: string, changes: Partial<Omit<SandboxRecord, 'id' | 'teamId'>>): Promise<void>;
  /** The guest's token and environment; nobody may read them once the sandbox or build has ended. */
  deleteSecrets(id: string): Promise<void>;

  findOperation(id: string): Promise<OperationRecord | null>;
  /** The one that is not closed; there is at most one. */
  findOpenOperation(sandboxId: string): Promise<OperationRecord | null>;
  /** The one with the highest epoch, open or not. */
  findNewestOperation(sandboxId: string): Promise<OperationRecord | null>;
  insertOperation(operation: OperationRecord): Promise<void>;
  updateOperation(id: string, changes: Partial<Pick<OperationRecord, 'placement' | 'hostId'>>): Promise<void>;
  closeOperation(
    id: string,
    end: { state: Exclude<OperationState, 'running'>; step: string | null; failure: Failure | null; finishedAt: Date },
  ): Promise<void>;
  appendEvent(event: SandboxEvent): Promise<void>;

  /** Others that judge the host wait; its heartbeats too, for as long as this takes. */
  lockHost(id: string): Promise<HostLease | null>;
  setLostAt(id: string, lostAt: Date | null): Promise<void>;
  /** Sandboxes of a host that is lost, with an event each. Answers how many became `missing`. */
  markMissing(host: { id: string; silentSince: Date }, from: readonly SandboxState[]): Promise<number>;

  findTemplate(id: string): Promise<TemplateRecord | null>;
  /**
   * One placement at a time, until the transaction ends. What `onlineHosts` says after
   * this includes every reservation made before: two creates cannot both take the last megabyte.
   */
  lockPlacement(): Promise<void>;
  onlineHosts(): Promise<HostLoad[]>;
  /** All builds of a template, newest first. */
  buildsOf(templateId: string): Promise<BuildRecord[]>;

  lockBuild(id: string): Promise<BuildRecord | null>;
  insertBuild(input: TemplateBuildInput & { hostId: string; epoch: number; runId: string }): Promise<void>;
  /** Adds nothing when the same text of the same step is there already. */
  appendBuildLog(buildId: string, step: number, text: string): Promise<void>;
  closeBuild(
    id: string,
    end: {
      state: Exclude<BuildState, 'running'>;
      artefact: BuildArtefact | null;
      failure: Failure | null;
      finishedAt: Date;
    },
  ): Promise<void>;
}

/** What the control activities ask of Temporal. */
export interface ControlTemporal {
  /** Starts the keeper of the sandbox's timeout; one that is there reads its deadline again. */
  armKeeper(sandbox: { id: string; teamId: string; templateId: string; hostId: string | null }): Promise<void>;
  /** The keeper reads the sandbox again, and ends when there is nothing to keep. Accepts that there is no keeper. */
  wakeKeeper(sandboxId: string): Promise<void>;
  /** Whether a run is open under this workflow id. */
  isOpen(workflowId: string): Promise<boolean>;
  /** Sandboxes of the host whose timeouts are kept. May lag behind, so what is not there is asked for by `isOpen`. */
  keptOn(hostId: string | null): Promise<ReadonlySet<string>>;
  /** The host's lease is watched afterwards. */
  ensureWatch(hostId: string): Promise<void>;
  /**
   * Starts a repair and waits only until it has taken the sandbox; joins the run that the same `opId` started before.
   * Rejects with a `DomainError` when it could not start.
   */
  startRepair(request: {
    kind: 'recover' | 'destroy';
    opId: string;
    sandbox: { id: string; teamId: string; templateId: string; hostId: string | null };
    ifEpoch: number;
    reason: string;
  }): Promise<{ opId: string }>;
  /**
   * Starts an operation and waits for its end; joins the run that the same `opId` started
   * before. Rejects with a `DomainError` when it could not start, e.g. `operation_in_progress`.
   */
  runOperation(request: {
    kind: 'pause' | 'destroy';
    opId: string;
    sandboxId: string;
    teamId: string;
    reason: string;
  }): Promise<{ failure: Failure | null }>;
}
