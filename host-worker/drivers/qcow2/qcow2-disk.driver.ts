import { access, chmod, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Disk, DiskAttachment, DiskBase } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { removeDurably, renameDurably, storageFailure, syncPath, writeDurably } from '../../durable-file.js';
import type { Exec } from '../../exec.js';
import { KeyedMutex } from '../../keyed-mutex.js';
import { SandboxFolders, namesIn } from '../../sandbox-folder.js';
import { type ImageInfo, QemuImg } from './qemu-img.js';

const DISK = 'disk.qcow2';
/** An overlay that `qemu-img create` has not finished. */
const PARTIAL = 'disk.qcow2.partial';
/** Present: what the guest wrote since the roll-back point counts, and the point only awaits a dead VM to be dropped. */
const COMMITTED = 'disk.committed';
const POINT = 'resume-point';

/**
 * One qcow2 overlay per disk. The roll-back point is an internal snapshot of it, so
 * that it costs no second file and no copy. It can only be made and dropped while no
 * VM has the image open; `commit`, which comes while one does, leaves a marker instead
 * and the next `attach` or `detach` acts on it.
 */
export class Qcow2Disk implements Disk {
  readonly #folders: SandboxFolders;
  readonly #img: QemuImg;
  readonly #locks = new KeyedMutex();

  constructor(options: { dataDir: string; exec: Exec }) {
    this.#folders = new SandboxFolders(options.dataDir);
    this.#img = new QemuImg(options.exec);
  }

  create(id: string, base: DiskBase, signal?: AbortSignal): Promise<DiskAttachment> {
    return this.#locks.runExclusive(id, () => this.#create(id, base, signal));
  }

  async #create(id: string, base: DiskBase, signal: AbortSignal | undefined): Promise<DiskAttachment> {
    const existing = await this.find(id);
    if (existing !== undefined) return existing;
    await requireBase(base.path, `the new disk of ${id}`);
    const partial = this.#file(id, PARTIAL);
    try {
      await this.#folders.ensure(id);
      await rm(partial, { force: true });
      await this.#img.createOverlay(partial, base, signal);
      await rename(partial, this.#file(id, DISK));
      return this.#attachment(id);
    } catch (err) {
      await this.#removeUnfinished(id);
      throw storageFailure(err, `creating the disk of ${id}`);
    }
  }

  async attach(id: string, signal?: AbortSignal): Promise<DiskAttachment> {
    const info = await this.#require(id, signal);
    const { path } = this.#attachment(id);
    try {
      const committed = await this.#isCommitted(id);
      const hasPoint = info.snapshots.includes(POINT);
      if (hasPoint && !committed) {
        await this.#img.snapshot('apply', POINT, path, signal);
      } else {
        await this.#dropPoint(id, hasPoint, signal);
        await this.#img.snapshot('create', POINT, path, signal);
      }
      return this.#attachment(id);
    } catch (err) {
      throw storageFailure(err, `attaching the disk of ${id}`);
    }
  }

  async find(id: string): Promise<DiskAttachment | undefined> {
    const attachment = this.#attachment(id);
    return (await exists(attachment.path)) ? attachment : undefined;
  }

  async commit(id: string): Promise<void> {
    if ((await this.find(id)) === undefined) throw missing(id, this.#attachment(id).path);
    await writeDurably(this.#file(id, COMMITTED), '');
  }

  async rollback(id: string, signal?: AbortSignal): Promise<void> {
    if ((await this.find(id)) === undefined) return;
    const info = await this.#require(id, signal);
    const hasPoint = info.snapshots.includes(POINT);
    if (hasPoint && !(await this.#isCommitted(id))) {
      await this.#img.snapshot('apply', POINT, this.#attachment(id).path, signal);
    }
    await this.#dropPoint(id, hasPoint, signal);
  }

  /** Whatever the guest wrote counts from here on, committed or not: the caller's next step relies on this data. */
  async detach(id: string, signal?: AbortSignal): Promise<void> {
    if ((await this.find(id)) === undefined) return;
    const info = await this.#require(id, signal);
    await this.#dropPoint(id, info.snapshots.includes(POINT), signal);
    const { path } = this.#attachment(id);
    try {
      await syncPath(path);
      await syncPath(dirname(path));
    } catch (err) {
      throw storageFailure(err, `writing the disk of ${id} to stable storage`);
    }
  }

  async remove(id: string): Promise<void> {
    for (const name of [DISK, PARTIAL, COMMITTED]) await rm(this.#file(id, name), { force: true });
    await this.#folders.removeIfEmpty(id);
  }

  async publish(id: string, path: string, signal?: AbortSignal): Promise<{ base: DiskBase; bytes: number }> {
    if ((await this.find(id)) !== undefined) {
      await this.detach(id, signal);
      const disk = this.#attachment(id).path;
      await chmod(disk, 0o444);
      await renameDurably(disk, path);
      await this.remove(id);
    } else if (!(await exists(path))) {
      throw missing(id, this.#attachment(id).path);
    }
    return { base: { path, format: 'qcow2' }, bytes: (await stat(path)).blocks * 512 };
  }

  async list(): Promise<string[]> {
    const ids: string[] = [];
    for (const id of await this.#folders.list()) {
      const names = await namesIn(this.#folders.path(id));
      if (names.some((name) => name.startsWith('disk.'))) ids.push(id);
    }
    return ids;
  }

  /** What cannot be removed now, as where nothing can be written, is listed as this disk and goes with `remove`. */
  async #removeUnfinished(id: string): Promise<void> {
    try {
      await rm(this.#file(id, PARTIAL), { force: true });
      await this.#folders.removeIfEmpty(id);
    } catch {
      // Why the disk was not made matters more.
    }
  }

  /** The point goes before the marker: a point without its marker would be rolled back to. */
  async #dropPoint(id: string, hasPoint: boolean, signal: AbortSignal | undefined): Promise<void> {
    if (hasPoint) await this.#img.snapshot('delete', POINT, this.#attachment(id).path, signal);
    if (await this.#isCommitted(id)) await removeDurably(this.#file(id, COMMITTED));
  }

  async #require(id: string, signal: AbortSignal | undefined): Promise<ImageInfo> {
    const { path } = this.#attachment(id);
    if ((await this.find(id)) === undefined) throw missing(id, path);
    const info = await this.#img.info(path, signal);
    // What is no qcow2 at all would be taken for the raw content of a disk.
    if (info.corrupt || info.format !== 'qcow2') {
      throw new DomainError(
        'command_failed',
        `the disk of ${id} is damaged; look at it with \`qemu-img check ${path}\``,
      );
    }
    if (info.backing !== undefined) await requireBase(info.backing, `the disk of ${id}`);
    return info;
  }

  #isCommitted(id: string): Promise<boolean> {
    return exists(this.#file(id, COMMITTED));
  }

  #attachment(id: string): DiskAttachment {
    return { path: this.#file(id, DISK), format: 'qcow2' };
  }

  #file(id: string, name: string): string {
    return join(this.#folders.path(id), name);
  }
}

async function requireBase(path: string, whose: string): Promise<void> {
  if (await exists(path)) return;
  throw new DomainError('not_found', `the base image ${path}, over which ${whose} is laid, is missing on this host`);
}

function missing(id: string, path: string): DomainError {
  return new DomainError('not_found', `${id} has no disk on this host: there is no ${path}`);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
