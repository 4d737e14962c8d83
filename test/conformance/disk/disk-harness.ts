import type { Disk, DiskAttachment, DiskBase } from '../../../activities/host/ports.js';
import type { Exec } from '../../../host-worker/exec.js';

/** What the suite of the port needs of a driver of `Disk`, beside the port. */
export interface DiskHarness {
  disk: Disk;
  base: DiskBase;
  /** What a VM would write to and find on the disk, attached or not. */
  put(disk: DiskAttachment | DiskBase, value: number): Promise<void>;
  get(disk: DiskAttachment | DiskBase): Promise<number>;
  /** Where `publish` may put a base. */
  newPath(): string;
  /** A second instance of the driver, as after a restart of the worker. */
  restarted(): Promise<Disk> | Disk;
  dispose(): Promise<void>;
}

/** What the suites of crashes and hardship need as well, of drivers that work on a machine. */
export interface MachineDiskHarness extends DiskHarness {
  /** What the driver's commands are run by. */
  exec: Exec;
  /** Opens the disk for writing, as a VM does. Resolves, once it is open, with what closes it. */
  hold(disk: DiskAttachment): Promise<() => Promise<void>>;
  /** With `exec`, an instance whose commands that runs. */
  restarted(exec?: Exec): Promise<Disk>;
  /** An instance that keeps its disks in another directory. */
  inDirectory(dataDir: string): Promise<Disk>;
  /** Everything that this machine has of disks: files below the data directory, devices. */
  things(): Promise<string[]>;
  /** What `publish` has left at this path, if anything. */
  removePublished(path: string): Promise<void>;
}

/** Ids for tests that run one after the other on the same harness. */
export function idsFor(prefix: string): () => string {
  let count = 0;
  return () => `${prefix}${(count += 1)}`;
}

/** A disk that shows `value` and is not attached. */
export async function makeDetached(harness: DiskHarness, id: string, value: number): Promise<void> {
  await harness.put(await harness.disk.create(id, harness.base), value);
  await harness.disk.detach(id);
}
