import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';

/**
 * The steps of a host, as workflows call them on its queue. Every method is one
 * Temporal activity; its name is what operators read in the Temporal UI. Each may
 * run twice and must then find its own work: it is journaled by (sandbox, epoch,
 * step) before it acts. Ids in, ids out; nothing secret and nothing large.
 */
export interface StepInput {
  sandboxId: string;
  /** Fencing number of the operation. The host refuses any lower or closed one with `stale_operation`. */
  epoch: number;
  opId: string;
  /** The operation needs the host no more once this step is done: its epoch is closed there. */
  last?: boolean;
}

/** What a new disk is laid over. */
export type DiskSource =
  /** A published build: its disk is the base. */
  | { kind: 'build'; buildId: string }
  /** A bare root filesystem of the host's image catalogue. */
  | { kind: 'image'; image: string }
  /** The disk that the sandbox already has; whatever this operation lets the guest write can be rolled back. */
  | { kind: 'own' };

/** Where the memory of a new VM comes from. */
export type VmBoot =
  | { kind: 'cold' }
  /** The warm snapshot of a build; where it cannot be restored the host boots cold and says why. */
  | { kind: 'build'; buildId: string }
  /** The sandbox's own memory snapshot. */
  | { kind: 'snapshot'; generation: number };

/** How a VM came up. `note` tells why a warm start became a cold boot. */
export interface VmStarted {
  how: 'booted' | 'restored';
  note?: string;
}

export interface SnapshotInfo {
  generation: number;
  /** Bytes of the memory file. */
  memoryBytes: number;
  /** How long the virtual CPUs stood still, milliseconds. */
  frozenMs: number;
}

export interface BuildArtefact {
  memoryBytes: number;
  diskBytes: number;
  hypervisor: string;
  cpu: string;
  /** Absent in what was built before there was another than qcow2. */
  diskFormat?: 'qcow2' | 'raw';
}

export interface CommandOutcome {
  exitCode: number;
  /** Both streams as they came, the last 64 KiB; a first line says when more was cut off. */
  output: string;
  durationMs: number;
}

/** What a host has of one sandbox or build. */
export interface Holding {
  id: string;
  vm: VmStatus;
  disk: boolean;
  network: boolean;
  /** Generations of complete memory snapshots. */
  snapshots: number[];
  /** Newest epoch that the host's journal knows; null when it knows none. */
  epoch: number | null;
}

/** `frozen`: the process lives and its virtual CPUs stand still. */
export type VmStatus = 'absent' | 'running' | 'frozen';

/**
 * Whose it is, as the control plane says of what a host holds. `live`: a sandbox or build of this host that has not ended. `ended`: it has, or it
 * lives on another host; what is left of it here is nobody's. `unknown`: the control plane never knew it, as after its database was
 * restored from an older backup; nothing is to be concluded from that.
 */
export type Verdict = 'live' | 'ended' | 'unknown';

/** What became of a sandbox whose row nobody can trust. */
export interface Inspection {
  vm: VmStatus;
  disk: boolean;
  /** Whether the memory snapshot of the generation that was asked for is there, complete. */
  snapshot: boolean;
}

/**
 * What a host is asked beside the steps of operations, on the same queue. Both look and clean up only: neither touches
 * what a sandbox that has not ended owns.
 */
export interface HostCare {
  /** All that this host has of sandboxes and running builds. */
  takeInventory(): Promise<Holding[]>;
  /**
   * Removes what the host has of these ids, each only if the control plane, asked again, says that it has ended or lives
   * elsewhere; with `unknown` also where it never knew the id.
   */
  removeOrphans(input: { ids: string[]; unknown: boolean }): Promise<{ removed: string[]; kept: string[] }>;
}

export interface HostActivities {
  /** Namespace, veth, tap and addresses of the sandbox, and what it may send. */
  setUpNetwork(input: StepInput & NetworkPolicy): Promise<void>;
  /** What a guest that runs on may send from now on. */
  applyNetworkPolicy(input: StepInput & NetworkPolicy): Promise<void>;
  /** Undoes `applyNetworkPolicy`: the policy before it. Accepts that there is no network any more. */
  restoreNetworkPolicy(input: StepInput & NetworkPolicy): Promise<void>;
  releaseNetwork(input: StepInput): Promise<void>;

  attachDisk(input: StepInput & { source: DiskSource }): Promise<void>;
  /** `keep` for a pause, `rollback` to undo a resume, `delete` to undo a create. */
  detachDisk(input: StepInput & { outcome: 'keep' | 'rollback' | 'delete' }): Promise<void>;

  startVm(input: StepInput & { vcpus: number; memoryMb: number; boot: VmBoot }): Promise<VmStarted>;
  killVm(input: StepInput): Promise<void>;

  /** Waits for the agent, then gives it clock, entropy, identity, environment, user and token. */
  initGuest(input: StepInput): Promise<void>;
  /** Makes the guest small and consistent: sync, trim, drop caches. */
  quiesceGuest(input: StepInput): Promise<void>;
  unquiesceGuest(input: StepInput): Promise<void>;

  /**
   * Freezes the VM and writes its memory to a temporary directory: files and
   * directory fsynced, manifest with checksums, atomic rename. One step, so that
   * no round trip lengthens the time the guest stands still. Leaves the VM frozen.
   */
  snapshotVm(input: StepInput & { generation: number }): Promise<SnapshotInfo>;
  unfreezeVm(input: StepInput): Promise<void>;
  deleteSnapshot(input: StepInput & { generation: number }): Promise<void>;
  /** After a resume is committed: forget the roll-back point of the disk and the memory it came from. */
  forgetPausedState(input: StepInput & { generation: number }): Promise<void>;

  /** What is there of a sandbox of which nobody can say what became of it. Changes nothing. */
  inspectSandbox(input: StepInput & { generation: number }): Promise<Inspection>;
  /**
   * Before a recovery boots the sandbox from its disk: ends what is left of its VM and says what of the disk counts,
   * `keep` everything that was written, `rollback` what was there before an unfinished resume. Not an undo, unlike killVm
   * and detachDisk: the same operation attaches the disk and starts a VM afterwards, which those would refuse.
   */
  clearVm(input: StepInput & { disk: 'keep' | 'rollback' }): Promise<void>;

  /** The last step of destroy: everything the sandbox still has on this host. */
  deleteFiles(input: StepInput): Promise<void>;
  /** After a failed operation: refuse whatever of it may still be on its way. */
  closeEpoch(input: StepInput): Promise<void>;

  /** One set-up command of a template build, as root in the guest. */
  runSetupCommand(input: StepInput & { index: number; command: string }): Promise<CommandOutcome>;
  /** Freezes the build's VM, saves memory and disk, ends the VM and publishes both under the build's id. */
  publishBuild(input: StepInput & { vcpus: number; memoryMb: number; image: string }): Promise<BuildArtefact>;
  deleteBuild(input: StepInput): Promise<void>;
}
