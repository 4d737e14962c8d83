import { access, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DomainError } from '../../../workflows/contract/errors.js';
import type { Exec } from '../../exec.js';
import { KeyedMutex } from '../../keyed-mutex.js';
import { namesIn } from '../../sandbox-folder.js';
import { UndoStack } from '../../undo-stack.js';
import { SECTOR_BYTES } from './cow-size.js';
import { Dmsetup } from './dmsetup.js';
import { type LoopDevice, Losetup } from './losetup.js';

/** How often somebody else may take the base's device away in the moment between finding and using it. */
const ATTEMPTS = 5;
const BACKOFF_MS = { first: 10, last: 250 };

export interface SnapshotParts {
  /** Real paths: the kernel names files by them. */
  base: string;
  cow: string;
  /** Of the base. */
  sectors: number;
}

export interface SnapshotDevicesOptions {
  exec: Exec;
  hostTag: string;
  /** How long a device that is still open is waited for. */
  busyMs: number;
  /** Where device-mapper's nodes and the kernel's block devices are; only tests have reason to change them. */
  nodeDir?: string | undefined;
  sysBlock?: string | undefined;
}

/**
 * Snapshot devices `torpor-<tag>-<id>`, each over a loop device of its own for the CoW file and one that all of the
 * same base share, also those of other host workers. Both loop devices are marked for detaching right after the
 * snapshot has opened them, so that the kernel counts who uses a base and lets go of it with the last one, whatever
 * becomes of this process. What a crash leaves before that mark is found by the name of the snapshot, by the path of
 * the CoW file, and of a base by its limit: nobody else limits a device to the size that its file has anyway.
 */
export class SnapshotDevices {
  readonly dmsetup: Dmsetup;
  readonly #losetup: Losetup;
  readonly #baseLocks = new KeyedMutex();
  readonly #prefix: string;
  readonly #nodeDir: string;

  constructor(private readonly options: SnapshotDevicesOptions) {
    const { exec, hostTag, busyMs, nodeDir = '/dev/mapper', sysBlock = '/sys/block' } = options;
    this.dmsetup = new Dmsetup(exec, busyMs);
    this.#losetup = new Losetup(exec, sysBlock);
    this.#prefix = `torpor-${hostTag}-`;
    this.#nodeDir = nodeDir;
  }

  name(id: string): string {
    return `${this.#prefix}${id}`;
  }

  /** Undefined for a device that is not one of this host worker. */
  idOf(name: string): string | undefined {
    return name.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : undefined;
  }

  node(id: string): string {
    return join(this.#nodeDir, this.name(id));
  }

  /** Exactly this snapshot is there and can be opened. */
  async isActive(id: string, { base, cow }: SnapshotParts): Promise<boolean> {
    const [table, loops] = await Promise.all([this.dmsetup.table(this.name(id)), this.#losetup.list()]);
    if (table?.kind !== 'snapshot') return false;
    const shows = (number: string, file: string): boolean =>
      loops.some((loop) => loop.number === number && loop.file === file && !loop.deleted);
    if (!shows(table.origin, base) || !shows(table.cow, cow)) return false;
    await this.#ensureNode(id);
    return true;
  }

  /** Leaves nothing behind when it fails. */
  async activate(id: string, parts: SnapshotParts, signal?: AbortSignal): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const undo = new UndoStack();
      undo.push(`snapshot device of ${id}`, () => this.deactivate(id, parts));
      try {
        if (await this.#assemble(id, parts, signal)) return;
      } catch (err) {
        throw await undo.unwind(err);
      }
      await this.deactivate(id, parts);
    }
    throw new DomainError(
      'command_failed',
      `the disk of ${id} could not be laid over ${parts.base}, whose loop device was taken away ${ATTEMPTS} times; see \`losetup --list\``,
      { sandboxId: id },
    );
  }

  /** Nothing holds the files any more when this returns. Takes no signal: half of it helps nobody. */
  async deactivate(id: string, { base, cow }: { base: string | undefined; cow: string }): Promise<void> {
    const name = this.name(id);
    const [table, loops] = await Promise.all([this.dmsetup.table(name), this.#losetup.list()]);
    const used = table?.kind === 'snapshot' ? [table.origin, table.cow] : [];
    const ofCow = loops.filter(({ file }) => file === cow);
    // A number in the table may have gone to another file before the snapshot had opened it.
    const ours = [...ofCow, ...loops.filter((loop) => used.includes(loop.number) && isBase(loop))];
    await this.#losetup.detach(ours.filter(({ autoclear }) => !autoclear).map(({ device }) => device));
    if (table !== undefined) await this.#removeDevice(id);
    // Of a dmsetup that was killed.
    await rm(this.node(id), { force: true });
    for (const { device } of ofCow) await this.#awaitDetached(device, cow);
    if (base === undefined) return;
    const idle = loops.some((loop) => isLeftOver(loop, base) && !used.includes(loop.number));
    if (idle) await this.#releaseBase(base);
  }

  /** Extends what the snapshot sees of a CoW file that has become larger. */
  async followGrowth(id: string, cow: string): Promise<void> {
    const table = await this.dmsetup.table(this.name(id));
    const loops = await this.#losetup.list();
    const loop = loops.find(({ number, file }) => table?.kind === 'snapshot' && number === table.cow && file === cow);
    if (loop !== undefined) await this.#losetup.setCapacity(loop.device);
  }

  /** Of all that have a device or a node of this host worker, or a loop device for a file in which `idIn` sees one. */
  async ids(idIn: (file: string) => string | undefined): Promise<string[]> {
    const [names, loops, nodes] = await Promise.all([
      this.dmsetup.names(),
      this.#losetup.list(),
      namesIn(this.#nodeDir),
    ]);
    const found = [...[...names, ...nodes].map((name) => this.idOf(name)), ...loops.map(({ file }) => idIn(file))];
    return [...new Set(found.filter((id) => id !== undefined))];
  }

  /**
   * False where it may succeed the next time: the base's device was not the base's any more by the time the snapshot
   * had opened it, or a worker that died has left a snapshot of that name. The base is locked from looking for its
   * device to marking it, so that concurrent calls share one.
   */
  #assemble(id: string, parts: SnapshotParts, signal: AbortSignal | undefined): Promise<boolean> {
    const { base, cow, sectors } = parts;
    return this.#baseLocks.runExclusive(base, async () => {
      const found = (await this.#losetup.list()).find((loop) => isOfBase(loop, base, sectors));
      const origin = found?.device ?? (await this.#losetup.attachReadOnly(base, sectors * SECTOR_BYTES, signal));
      const store = await this.#losetup.attach(cow, signal);
      try {
        await this.dmsetup.createSnapshot(this.name(id), { sectors, origin, cow: store }, signal);
      } catch (err) {
        if (signal?.aborted !== true && (await this.dmsetup.table(this.name(id))) !== undefined) return false;
        throw err;
      }
      const behind = await Promise.all([origin, store].map((device) => this.#losetup.fileBehind(device)));
      if (behind[0] !== base || behind[1] !== cow) return false;
      await this.#losetup.detach(found?.autoclear === true ? [store] : [store, origin]);
      await this.#ensureNode(id);
      return true;
    });
  }

  async #removeDevice(id: string): Promise<void> {
    try {
      await this.dmsetup.remove(this.name(id));
    } catch (err) {
      throw new DomainError(
        'command_failed',
        `the disk of ${id} cannot be taken down: ${(err as Error).message}; see \`fuser -v ${this.node(id)}\` and \`dmsetup info ${this.name(id)}\``,
        { sandboxId: id },
        { cause: err },
      );
    }
  }

  /** The kernel detaches when the last one has closed the device, and tells nobody when that was. */
  async #awaitDetached(device: string, cow: string): Promise<void> {
    const deadline = performance.now() + this.options.busyMs;
    for (let pause = BACKOFF_MS.first; ; pause = Math.min(pause * 2, BACKOFF_MS.last)) {
      if ((await this.#losetup.fileBehind(device)) !== cow) return;
      if (performance.now() > deadline) {
        throw new DomainError('command_failed', `${device} still holds ${cow}; see \`fuser -v ${device}\``);
      }
      await sleep(pause);
    }
  }

  /** Others that are just using it keep it: for them it is only marked. */
  #releaseBase(base: string): Promise<void> {
    return this.#baseLocks.runExclusive(base, async () => {
      const left = (await this.#losetup.list()).filter((loop) => isLeftOver(loop, base));
      await this.#losetup.detach(left.map(({ device }) => device));
    });
  }

  async #ensureNode(id: string): Promise<void> {
    const there = await access(this.node(id)).then(
      () => true,
      () => false,
    );
    if (!there) await this.dmsetup.makeNode(this.name(id));
  }
}

/** Made for a base by one of us. */
function isBase({ readOnly, offset, sizeLimit }: LoopDevice): boolean {
  return readOnly && offset === 0 && sizeLimit !== 0;
}

function isOfBase(loop: LoopDevice, base: string, sectors: number): boolean {
  return isBase(loop) && loop.file === base && !loop.deleted && loop.sizeLimit === sectors * SECTOR_BYTES;
}

/** Not marked by the time it was looked at. */
function isLeftOver(loop: LoopDevice, base: string): boolean {
  return isBase(loop) && loop.file === base && !loop.autoclear;
}
