import { chmod, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Disk, DiskAttachment, DiskBase } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { storageFailure, syncPath } from '../../durable-file.js';
import { isAbsent } from '../../errno.js';
import type { Exec } from '../../exec.js';
import { canReflink, copySparsely } from '../../file-copy.js';
import { hostTag as tagOf } from '../../host-tag.js';
import { KeyedMutex } from '../../keyed-mutex.js';
import { checkedId, makeDirectory } from '../../sandbox-folder.js';
import { readBase, requireSameBase } from './base-image.js';
import { type BaseRecord, CowFiles } from './cow-files.js';
import { CowKeeper } from './cow-keeper.js';
import { type CowPolicy, SECTOR_BYTES, newCowBytes } from './cow-size.js';
import type { CowUsage } from './cow-usage.js';
import { SnapshotDevices, type SnapshotParts } from './snapshot-devices.js';

const BUSY_MS = 10_000;

export interface DmSnapshotOptions {
  exec: Exec;
  dataDir: string;
  /** Tells the devices of this host worker from those of others on the machine; of its data directory when absent. */
  hostTag?: string;
  policy?: CowPolicy;
  warn?: (fields: Record<string, unknown>, message: string) => void;
  /** How long a device that is still open is waited for; 10 s when absent. */
  busyMs?: number;
  /** Only tests have reason to change these. */
  nodeDir?: string;
  sysBlock?: string;
}

/**
 * One sparse CoW file per disk, over a read-only loop device of its base that all disks share. The file is all there
 * is of a disk: `detach` takes the devices down, and they are made again from it. The roll-back point is a copy of
 * the file, shared blocks where the file system can; it is there exactly as long as what was written since does not
 * count, so that `commit`, which comes while the VM runs, only deletes it.
 */
export class DmSnapshotDisk implements Disk {
  readonly #locks = new KeyedMutex();
  readonly #devices: SnapshotDevices;
  readonly #policy: CowPolicy;
  readonly #keeper: CowKeeper;

  private constructor(
    private readonly options: DmSnapshotOptions,
    private readonly files: CowFiles,
    /** How roll-back points are made here, in words. */
    readonly copies: string,
    hostTag: string,
  ) {
    const { exec, busyMs = BUSY_MS, nodeDir, sysBlock } = options;
    this.#devices = new SnapshotDevices({ exec, hostTag, busyMs, nodeDir, sysBlock });
    const { policy = {}, warn = () => undefined } = options;
    this.#policy = policy;
    this.#keeper = new CowKeeper({ devices: this.#devices, files, policy, warn });
  }

  static async open(options: DmSnapshotOptions): Promise<DmSnapshotDisk> {
    const { exec, dataDir } = options;
    await makeDirectory(dataDir, 0o711);
    const files = await CowFiles.open(exec, dataDir);
    const { possible, why } = await canReflink(dataDir);
    const copies = possible ? why : `${why}: copies are made block by block, without holes`;
    return new DmSnapshotDisk(options, files, copies, options.hostTag ?? (await tagOf(dataDir)));
  }

  async create(id: string, base: DiskBase, signal?: AbortSignal): Promise<DiskAttachment> {
    return this.#exclusive(id, `creating the disk of ${id}`, async () => {
      const existing = await this.files.record(id);
      if (existing !== undefined) {
        await this.#ensureActive(id, existing, signal);
        return this.#attachment(id);
      }
      await this.#refuseForeign(id);
      const record = await readBase(base, `the new disk of ${id}`);
      signal?.throwIfAborted();
      await this.#keeper.requireSpace(id);
      try {
        // What a dead worker left may still hold files that are about to be deleted.
        if (await this.#isHalfMade(id))
          await this.#devices.deactivate(id, { base: record.path, cow: this.files.cow(id) });
        await this.files.make(id, record, newCowBytes(sectorsOf(record), this.#policy));
        await this.#devices.activate(id, this.#parts(id, record), signal);
      } catch (err) {
        await this.#removeUnfinished(id);
        throw err;
      }
      return this.#attachment(id);
    });
  }

  async attach(id: string, signal?: AbortSignal): Promise<DiskAttachment> {
    return this.#exclusive(id, `attaching the disk of ${id}`, async () => {
      const record = await this.#require(id);
      await requireSameBase(record, `the disk of ${id}`);
      await this.#devices.deactivate(id, { base: record.path, cow: this.files.cow(id) });
      await this.#keeper.requireSpace(id);
      if (await this.files.hasPoint(id)) await this.files.returnToPoint(id, signal);
      else await this.files.makePoint(id, signal);
      await this.#activate(id, record, signal);
      return this.#attachment(id);
    });
  }

  async find(id: string): Promise<DiskAttachment | undefined> {
    return (await this.files.record(checkedId(id))) === undefined ? undefined : this.#attachment(id);
  }

  async commit(id: string): Promise<void> {
    await this.#exclusive(id, `keeping what was written to the disk of ${id}`, async () => {
      await this.#require(id);
      await this.files.dropPoint(id);
    });
  }

  async rollback(id: string): Promise<void> {
    await this.#exclusive(id, `rolling the disk of ${id} back`, async () => {
      await this.#takeDown(id);
      if ((await this.files.record(id)) !== undefined) await this.files.takePointBack(id);
    });
  }

  /** Whatever the guest wrote counts from here on, committed or not: the caller's next step relies on this data. */
  async detach(id: string): Promise<void> {
    await this.#exclusive(id, `writing the disk of ${id} to stable storage`, async () => {
      await this.#takeDown(id);
      if ((await this.files.record(id)) === undefined) return;
      await this.#require(id);
      await this.files.sync(id);
      // Not before: until then the point is the only state that a power cut cannot take.
      await this.files.dropPoint(id);
    });
  }

  async remove(id: string): Promise<void> {
    await this.#exclusive(id, `removing the disk of ${id}`, async () => {
      await this.#takeDown(id);
      await this.files.remove(id);
    });
    this.#keeper.forget(id);
  }

  async publish(id: string, path: string, signal?: AbortSignal): Promise<{ base: DiskBase; bytes: number }> {
    return this.#exclusive(id, `publishing the disk of ${id}`, async () => {
      const record = await this.files.record(id);
      if (record !== undefined) {
        await this.#ensureActive(id, record, signal);
        await this.#flatten(this.#devices.node(id), path, signal);
        await this.#takeDown(id);
        await this.files.remove(id);
      } else if ((await sizeOnDisk(path)) === undefined) {
        throw missing(id, this.files.cow(id));
      }
      return { base: { path, format: 'raw' as const }, bytes: (await sizeOnDisk(path)) ?? 0 };
    });
  }

  async list(): Promise<string[]> {
    const [files, devices] = await Promise.all([this.files.list(), this.#devices.ids((file) => this.files.idOf(file))]);
    return [...new Set([...files, ...devices])];
  }

  /** Undefined while the disk is not attached. */
  async usage(id: string): Promise<CowUsage | undefined> {
    return this.#keeper.usage(checkedId(id));
  }

  /** To be called every minute or so: warns of CoW files that fill up and extends them where the policy allows that. */
  async watchUsage(): Promise<CowUsage[]> {
    return this.#keeper.watch((id, work) => this.#locks.runExclusive(id, work));
  }

  async #ensureActive(id: string, record: BaseRecord, signal: AbortSignal | undefined): Promise<void> {
    await this.#require(id);
    await requireSameBase(record, `the disk of ${id}`);
    if (!(await this.#devices.isActive(id, this.#parts(id, record)))) return this.#activate(id, record, signal);
    return this.#keeper.requireRoom(id);
  }

  /** A disk that a guest would only break is taken down again. */
  async #activate(id: string, record: BaseRecord, signal: AbortSignal | undefined): Promise<void> {
    const parts = this.#parts(id, record);
    await this.#devices.deactivate(id, parts);
    await this.#devices.activate(id, parts, signal);
    try {
      await this.#keeper.requireRoom(id);
    } catch (err) {
      await this.#devices.deactivate(id, parts);
      throw err;
    }
  }

  async #takeDown(id: string): Promise<void> {
    // Of a record that cannot be read the base is not known, but its devices are.
    const record = await this.files.record(id).catch(() => undefined);
    await this.#devices.deactivate(id, { base: record?.path, cow: this.files.cow(id) });
  }

  async #removeUnfinished(id: string): Promise<void> {
    try {
      await this.#takeDown(id);
      await this.files.remove(id);
    } catch (err) {
      // Why the disk was not made matters more; what is left is listed and goes with `remove`.
      this.options.warn?.({ err, sandboxId: id }, 'a disk that could not be made could not be removed either');
    }
  }

  /** Blocks of zeros become holes: most of a base is empty. */
  async #flatten(device: string, path: string, signal: AbortSignal | undefined): Promise<void> {
    const partial = `${path}.partial`;
    await rm(partial, { force: true });
    await copySparsely(this.options.exec, device, partial, signal);
    await chmod(partial, 0o444);
    await rename(partial, path);
    await syncPath(dirname(path));
  }

  async #require(id: string): Promise<BaseRecord> {
    const record = await this.files.record(id);
    if (record === undefined) await this.#refuseForeign(id);
    if (record === undefined) throw missing(id, this.files.cow(id));
    if ((await this.files.bytes(id)) !== undefined) return record;
    throw new DomainError(
      'sandbox_lost',
      `the disk of ${id} is lost: ${this.files.cow(id)}, with everything written to it, is missing`,
      { sandboxId: id },
    );
  }

  async #refuseForeign(id: string): Promise<void> {
    const foreign = await this.files.foreignDisk(id);
    if (foreign === undefined) return;
    throw new DomainError(
      'unsupported',
      `${foreign}, the disk of ${id}, was made by another disk driver; start this host worker with TORPOR_DISK=qcow2 to use it`,
      { sandboxId: id },
    );
  }

  async #isHalfMade(id: string): Promise<boolean> {
    return (await this.list()).includes(id);
  }

  #exclusive<T>(id: string, doing: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.runExclusive(checkedId(id), async () => {
      try {
        return await work();
      } catch (err) {
        throw storageFailure(err, doing);
      }
    });
  }

  #parts(id: string, record: BaseRecord): SnapshotParts {
    return { base: record.path, cow: this.files.cow(id), sectors: sectorsOf(record) };
  }

  #attachment(id: string): DiskAttachment {
    return { path: this.#devices.node(id), format: 'raw' };
  }
}

function sectorsOf(record: BaseRecord): number {
  return record.bytes / SECTOR_BYTES;
}

function missing(id: string, path: string): DomainError {
  return new DomainError('not_found', `${id} has no disk on this host: there is no ${path}`);
}

async function sizeOnDisk(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).blocks * 512;
  } catch (err) {
    if (isAbsent(err)) return undefined;
    throw err;
  }
}
