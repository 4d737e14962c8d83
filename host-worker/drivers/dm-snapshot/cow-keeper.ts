import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import type { CowFiles } from './cow-files.js';
import { type CowPolicy, SECTOR_BYTES, grownCowBytes } from './cow-size.js';
import { type CowUsage, cowFull, invalidated, usageOf, usageText } from './cow-usage.js';
import type { SnapshotDevices } from './snapshot-devices.js';

/** Of the file system with the CoW files; the kernel gives up every snapshot that it cannot write for. */
const RESERVE = { share: 0.05, bytes: 2 ** 30 };

export interface CowKeeperOptions {
  devices: SnapshotDevices;
  files: CowFiles;
  policy: CowPolicy;
  warn: (fields: Record<string, unknown>, message: string) => void;
}

/** Sees to it that CoW files have room, and says when they have not. What it asks is only known of attached disks. */
export class CowKeeper {
  /** What was warned of, so that the log says it once. */
  readonly #warned = new Map<string, string>();

  constructor(private readonly options: CowKeeperOptions) {}

  /** Undefined while the disk is not attached: only the kernel knows, and only then. */
  async usage(id: string): Promise<CowUsage | undefined> {
    const { devices } = this.options;
    const status = await devices.dmsetup.status(devices.name(id));
    return status === undefined ? undefined : usageOf(id, status);
  }

  /** Warns of every disk that fills up; `exclusively` runs what extends one. */
  async watch(exclusively: (id: string, work: () => Promise<unknown>) => Promise<unknown>): Promise<CowUsage[]> {
    const { devices, files } = this.options;
    const all: CowUsage[] = [];
    for (const [name, status] of await devices.dmsetup.statuses()) {
      const id = devices.idOf(name);
      if (id === undefined) continue;
      const usage = usageOf(id, status);
      all.push(usage);
      this.#warnOfUsage(usage);
      if (usage.level === 'full') await exclusively(id, () => this.#grow(usage));
    }
    const lacks = await this.#lackOfSpace();
    this.#warnOnChange('', lacks, { directory: files.root }, `disks may be lost: ${lacks}`);
    return all;
  }

  forget(id: string): void {
    this.#warned.delete(id);
  }

  /** Of a disk that was just attached: it can be written to for a while. */
  async requireRoom(id: string): Promise<void> {
    const usage = await this.usage(id);
    if (usage === undefined || usage.state === 'invalid') throw invalidated(id, this.options.files.cow(id));
    if (usage.level === 'full' && !(await this.#grow(usage))) throw cowFull(usage);
  }

  /** Of the file system below. */
  async requireSpace(id: string): Promise<void> {
    const lacks = await this.#lackOfSpace();
    if (lacks === undefined) return;
    throw new DomainError('disk_full', `the disk of ${id} is not attached: ${lacks}`, { sandboxId: id });
  }

  /** Repeats what a crash interrupted: a file that is larger than the snapshot knows is not extended again. */
  async #grow({ id, state, cowBytes, fullBytes }: CowUsage): Promise<boolean> {
    const { devices, files, policy, warn } = this.options;
    const [bytes, record] = [await files.bytes(id), await files.record(id)];
    // After an overflow only a snapshot that is made anew takes writes again, and is extended then.
    if (bytes === undefined || record === undefined || state !== 'valid') return false;
    const target = bytes > cowBytes ? bytes : grownCowBytes(bytes, record.bytes / SECTOR_BYTES, policy);
    if (target === undefined || target > fullBytes) return false;
    if (target > bytes) await files.grow(id, target);
    await devices.followGrowth(id, files.cow(id));
    warn({ sandboxId: id, from: cowBytes, to: target }, 'the copy-on-write file was nearly full and was extended');
    return true;
  }

  #warnOfUsage(usage: CowUsage): void {
    const { id, state, level, usedBytes, cowBytes } = usage;
    const what = state === 'valid' ? level : state;
    const message =
      state === 'invalid'
        ? invalidated(id, this.options.files.cow(id)).message
        : `the copy-on-write file is filling up: ${usageText(usage)}`;
    const fields = { sandboxId: id, state, usedBytes, cowBytes };
    this.#warnOnChange(id, what === 'ok' ? undefined : what, fields, message);
  }

  #warnOnChange(key: string, what: string | undefined, fields: Record<string, unknown>, message: string): void {
    if (what !== undefined && this.#warned.get(key) !== what) this.options.warn(fields, message);
    if (what === undefined) this.#warned.delete(key);
    else this.#warned.set(key, what);
  }

  /** Undefined where there is enough. */
  async #lackOfSpace(): Promise<string | undefined> {
    const directory = dirname(this.options.files.root);
    const { bavail, blocks, bsize } = await statfs(directory);
    const reserve = Math.min(RESERVE.bytes, blocks * bsize * RESERVE.share);
    if (bavail * bsize >= reserve) return undefined;
    return `less than ${Math.ceil(reserve / 2 ** 20)} MiB are free in ${directory}; see \`df -h ${directory}\` on the host`;
  }
}
