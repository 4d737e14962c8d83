import type { NetworkCounters, NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { BuildArtefact, SnapshotInfo, Verdict, VmStatus } from './contract.js';

/**
 * What the steps need of a machine. Every method may run twice: Temporal retries
 * when a worker dies after the work was done but before it said so. `ensure*`
 * and `start` return what exists, `remove*` and `kill` accept absence. Everything
 * is found by the sandbox's id, never by memory, which a crash loses.
 * All methods take a signal and stop early, leaving nothing half-made, when it fires.
 */

/** Where a sandbox's guest is reached and how its VM is wired. */
export interface NetworkAttachment {
  /** Network namespace that the VMM runs in. */
  namespace: string;
  /** Tap device inside the namespace. */
  tap: string;
  mac: string;
  /** Address at which this host reaches every port of the guest. */
  hostAddress: string;
}

/**
 * A network of its own for each sandbox: the same inner address in each, translated
 * inside its namespace. Guests reach neither the host nor one another; egress is a
 * member of one nftables set, so the host's rules do not grow with sandboxes.
 */
export interface Network {
  /** Of a network that exists it applies the policy, as `apply` does. */
  ensure(id: string, policy: NetworkPolicy, signal?: AbortSignal): Promise<NetworkAttachment>;
  /** Another policy for a guest that runs on; connections that it forbids end. Rejects with `not_found` where there is no network. */
  apply(id: string, policy: NetworkPolicy, signal?: AbortSignal): Promise<void>;
  /** Undefined where there is no network. */
  counters(id: string): Promise<NetworkCounters | undefined>;
  find(id: string): Promise<NetworkAttachment | undefined>;
  remove(id: string, signal?: AbortSignal): Promise<void>;
  /** Ids of all sandboxes of this host with anything of a network left, half-made ones included. */
  list(): Promise<string[]>;
}

export interface DiskAttachment {
  path: string;
  format: 'qcow2' | 'raw';
}

/** Read-only bottom of a copy-on-write disk. */
export interface DiskBase {
  path: string;
  format: 'qcow2' | 'raw';
}

/**
 * Writable copy-on-write disks over read-only bases. A protected attach can be
 * rolled back: whatever the guest wrote since is undone by `rollback`, and kept for
 * good by `commit`. The VM that uses a disk must be dead before `attach`,
 * `detach`, `rollback` and `remove`; `commit` is called while it runs.
 */
export interface Disk {
  /** A fresh overlay over `base`, or the one that exists. */
  create(id: string, base: DiskBase, signal?: AbortSignal): Promise<DiskAttachment>;
  /** The existing disk, with a roll-back point. After a rolled back or killed attempt it is as that attempt found it. */
  attach(id: string, signal?: AbortSignal): Promise<DiskAttachment>;
  find(id: string): Promise<DiskAttachment | undefined>;
  commit(id: string, signal?: AbortSignal): Promise<void>;
  rollback(id: string, signal?: AbortSignal): Promise<void>;
  /** Everything written is on stable storage and nothing holds the disk afterwards. The data stays. */
  detach(id: string, signal?: AbortSignal): Promise<void>;
  /** Detaches and deletes. */
  remove(id: string, signal?: AbortSignal): Promise<void>;
  /** Detaches the disk and turns it into a base at `path` that others are laid over; the disk is gone afterwards. */
  publish(id: string, path: string, signal?: AbortSignal): Promise<{ base: DiskBase; bytes: number }>;
  list(): Promise<string[]>;
}

export interface VmSpec {
  vcpus: number;
  memoryMb: number;
  disk: DiskAttachment;
  network: NetworkAttachment;
  /** What `save` wrote for a VM of the same shape; absent for a cold boot. */
  memoryFile?: string;
}

/**
 * One process per VM that outlives the worker: its own session, found again by pid,
 * start time and API socket.
 */
export interface Hypervisor {
  /** Name and version, as recorded with what it saves. */
  readonly identity: { name: string; version: string; cpu: string };
  /** Returns once the virtual CPUs run. A VM that runs is left alone; a half-started one is killed first. */
  start(id: string, spec: VmSpec, signal?: AbortSignal): Promise<void>;
  status(id: string): Promise<VmStatus>;
  freeze(id: string, signal?: AbortSignal): Promise<void>;
  /** Also ends a save that was under way. A VM that runs is left alone; an absent one is an error. */
  unfreeze(id: string, signal?: AbortSignal): Promise<void>;
  /**
   * Writes the frozen VM's memory to `file`, or into a directory of that name, whichever the driver makes; it is complete
   * and fsynced when this returns. `bytes` and `sha256` are what host-worker/saved-memory.ts measures of either. A VM that still
   * loads its memory on demand is waited for.
   */
  save(id: string, file: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }>;
  /**
   * Returns when the VM needs the memory that it was restored from no more: one that is restored on demand still reads it
   * while it runs, and what it reads must be neither changed nor deleted. At once for all others, and for an absent VM.
   */
  awaitMemory(id: string, signal?: AbortSignal): Promise<void>;
  /** Returns when the process is gone and its sockets and run files are removed. */
  kill(id: string, signal?: AbortSignal): Promise<void>;
  /** The guest's serial console so far, the last `maxBytes`. */
  consoleLog(id: string, maxBytes: number): Promise<string>;
  list(): Promise<string[]>;
}

/** What the agent is told after every create, restore and resume. */
export interface GuestConfig {
  accessToken: string;
  env: Record<string, string>;
  templateId: string;
  user: string;
}

export interface GuestRun {
  exitCode: number;
  output: string;
  durationMs: number;
}

/** The agent in the guest, at the address where this host reaches it. */
export interface Guest {
  /** Resolves when the agent answers; rejects with `guest_unavailable` after `deadlineMs`. */
  waitReady(address: string, deadlineMs: number, signal?: AbortSignal): Promise<void>;
  init(address: string, sandboxId: string, config: GuestConfig, signal?: AbortSignal): Promise<void>;
  quiesce(address: string, signal?: AbortSignal): Promise<void>;
  unquiesce(address: string, signal?: AbortSignal): Promise<void>;
  /** Runs a shell command as root to its end; keeps the last `maxOutputBytes` of both streams. */
  run(
    address: string,
    accessToken: string,
    command: string,
    maxOutputBytes: number,
    signal?: AbortSignal,
  ): Promise<GuestRun>;
}

/** Saved memory of paused sandboxes, by sandbox and generation. Written once, never overwritten. */
export interface SnapshotStore {
  /**
   * `write` fills the file it is given, inside a temporary directory. Afterwards files
   * and directory are fsynced, a manifest with sizes and checksums is written and the
   * directory renamed into place. A snapshot that is already there is returned untouched.
   */
  save(
    id: string,
    generation: number,
    write: (memoryFile: string) => Promise<{ bytes: number; sha256: string; frozenMs: number }>,
    signal?: AbortSignal,
  ): Promise<SnapshotInfo>;
  /** The memory file of a complete snapshot; rejects with `snapshot_corrupt` when manifest and file disagree, `snapshot_incompatible` when another hypervisor or processor saved it, `not_found` when absent. */
  memoryFile(id: string, generation: number): Promise<string>;
  delete(id: string, generation: number): Promise<void>;
  /** Generations that are complete, by their manifests; their bytes are not read. */
  generations(id: string): Promise<number[]>;
  /** What a save that never ended has left. To be called while no step of the sandbox runs: a repeated one begins anew. */
  deleteUnfinished(id: string): Promise<void>;
  /** All generations and temporary directories of a sandbox. */
  deleteAll(id: string): Promise<void>;
  list(): Promise<string[]>;
}

/** Published template builds of this host: a disk that others are laid over and the memory of a warm guest. */
export interface BuildStore {
  save(
    buildId: string,
    write: (paths: {
      memoryFile: string;
      diskFile: string;
    }) => Promise<BuildArtefact & { disk: DiskBase; sha256: string }>,
    signal?: AbortSignal,
  ): Promise<BuildArtefact>;
  /** Rejects with `not_found` when the build is not on this host. */
  find(buildId: string): Promise<{ disk: DiskBase; artefact: BuildArtefact }>;
  /**
   * The saved memory of a build; rejects with `snapshot_corrupt` when it is not what was saved, `snapshot_incompatible`
   * when another hypervisor or processor saved it. Its disk is as good as before then.
   */
  memoryFile(buildId: string): Promise<string>;
  delete(buildId: string): Promise<void>;
  list(): Promise<string[]>;
  /** Builds that were begun and not published. A published one is a template and stays, whatever became of its build. */
  unfinished(): Promise<string[]>;
  /** What a build that was not published left; never a published one. */
  deleteUnfinished(buildId: string): Promise<void>;
}

/** Root filesystems that this host can boot without any build. */
export interface ImageCatalogue {
  /** Rejects with `not_found`, naming what there is. */
  rootfs(image: string): Promise<DiskBase>;
}

/** The control plane, as the host asks it: what must not travel through Temporal. */
export interface ControlPlane {
  /** What it says about whatever this host found of these ids. */
  verdicts(ids: readonly string[], signal?: AbortSignal): Promise<ReadonlyMap<string, Verdict>>;
  /** Token, environment and user of a sandbox or build that lives on this host. */
  guestConfig(sandboxId: string, signal?: AbortSignal): Promise<GuestConfig>;
}

/** The write-ahead record of steps, by (sandbox, epoch, step). On stable storage before a step acts. */
export interface Journal {
  /** Newest epoch that was recorded of a sandbox; undefined when there is none. */
  epochOf(sandboxId: string): number | undefined;
  /** Sandboxes and builds that it knows, long ended ones included. */
  ids(): string[];
  /** Whether this host made it under its present id. What else is here is another one's, such as its own former id's. */
  isOwn(sandboxId: string): boolean;
  /**
   * Records that the step begins. Returns the recorded result when the same step of the
   * same epoch was done before; rejects with `stale_operation` when a higher epoch was
   * seen or this one is closed.
   */
  begin(entry: JournalKey): Promise<{ done: false } | { done: true; result: unknown }>;
  done(entry: JournalKey, result: unknown, closes: boolean): Promise<void>;
}

export interface JournalKey {
  sandboxId: string;
  epoch: number;
  opId: string;
  /** Activity name, with its arguments' discriminator where one operation uses it twice. */
  step: string;
}

/** Everything the steps are made of; wired by the host worker, faked by the workflow tests. */
export interface HostPorts {
  hypervisor: Hypervisor;
  disk: Disk;
  network: Network;
  guest: Guest;
  snapshots: SnapshotStore;
  builds: BuildStore;
  images: ImageCatalogue;
  controlPlane: ControlPlane;
  journal: Journal;
}
