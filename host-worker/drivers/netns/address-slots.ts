import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';
import { namesIn } from '../../sandbox-folder.js';
import { parseCidr, toDotted, toNumber } from './address-range.js';

/** From writing a record to putting it into place take milliseconds. */
const UNPLACED_MS = 60_000;

/** A pair of addresses (a /31) out of the host's range: one end of a sandbox's veth each. */
export interface AddressSlot {
  index: number;
  /** The host's end. */
  hostSide: string;
  /** The namespace's end, translated to the guest: where the host reaches it. */
  guestSide: string;
}

/** What a slot is used for: the network of a sandbox, or one made ahead for whoever comes next. */
export interface SlotUse {
  /** Absent as long as no sandbox has it. */
  id?: string;
  /** How a network made ahead was made; one made in another way is of no use. */
  recipe?: string;
  /** The network at this address was finished and not begun to be taken down. */
  complete: boolean;
}

interface SlotRecord extends SlotUse {
  hostTag: string;
}

/**
 * Hands out address pairs. A pair is taken by linking a complete file to a name that
 * tells the address, in one directory for the whole machine: several host workers on
 * it share the address space and must not clash, and no reader ever sees half a file.
 */
export class AddressSlots {
  readonly #first: number;
  readonly #count: number;
  /** Where each sandbox was found last; asked again each time, as a slot may have gone to another one. */
  readonly #seen = new Map<string, AddressSlot>();

  constructor(
    private readonly dir: string,
    cidr: string,
    private readonly hostTag: string,
    private readonly warn: (fields: Record<string, unknown>, message: string) => void = () => {},
  ) {
    const range = parseCidr(cidr);
    this.#first = range.first;
    this.#count = range.size / 2;
  }

  /** A slot of nobody's, recorded for this use. What `isFree` refuses is left alone: something is there without a record. */
  async take(use: SlotUse, isFree: (slot: AddressSlot) => Promise<boolean> = async () => true): Promise<AddressSlot> {
    const record = await this.#write(use);
    try {
      const inUse = addressesInUse();
      const start = startOf(use.id ?? record, this.#count);
      for (let step = 0; step < this.#count; step += 1) {
        const slot = this.#slot((start + step) % this.#count);
        // Somebody else's interface, or one of ours that the kernel has not finished removing.
        if (inUse.has(slot.hostSide) || inUse.has(slot.guestSide) || !(await isFree(slot))) continue;
        if (await this.#claim(record, slot)) return slot;
      }
    } finally {
      await rm(record, { force: true });
    }
    throw new DomainError(
      'command_failed',
      `all ${this.#count} address pairs of this host are in use; see ${this.dir}`,
    );
  }

  async find(id: string): Promise<AddressSlot | undefined> {
    // Nearly always one of the first two looked at; the rest is for what was made ahead before this worker started.
    for (const likely of [this.#seen.get(id), this.#slot(startOf(id, this.#count))])
      if (likely !== undefined && (await this.#read(likely.hostSide))?.id === id) return this.#remember(id, likely);
    const found = (await this.#own()).find(({ use }) => use.id === id);
    if (found === undefined) this.#seen.delete(id);
    return found && this.#remember(id, found.slot);
  }

  /** What this host uses the slot for; undefined when it is not this host's. */
  async use(slot: AddressSlot): Promise<SlotUse | undefined> {
    return this.#read(slot.hostSide);
  }

  async setUse(slot: AddressSlot, use: SlotUse): Promise<void> {
    const record = await this.#write(use);
    try {
      await rename(record, join(this.dir, slot.hostSide));
    } catch (err) {
      await rm(record, { force: true });
      throw err;
    }
    if (use.id !== undefined) this.#remember(use.id, slot);
  }

  async release(slot: AddressSlot): Promise<void> {
    await rm(join(this.dir, slot.hostSide), { force: true });
  }

  /** Ids that hold a slot for this host, in its former range as well. */
  async list(): Promise<string[]> {
    return (await this.#records()).flatMap(({ use }) => use.id ?? []);
  }

  /** Slots that this host holds for no sandbox. */
  async listAhead(): Promise<{ slot: AddressSlot; use: SlotUse }[]> {
    return (await this.#own()).filter(({ use }) => use.id === undefined);
  }

  /** The slot of this number, whoever holds it; undefined when it lies outside of this host's range. */
  numbered(index: number): AddressSlot | undefined {
    return Number.isInteger(index) && index >= 0 && index < this.#count ? this.#slot(index) : undefined;
  }

  /** Records that a worker had written and not put into place when it died. Those of another one may be in the making. */
  async sweepUnplaced(): Promise<void> {
    for (const name of (await namesIn(this.dir)).filter((each) => each.startsWith('.'))) {
      const path = join(this.dir, name);
      const writtenAt = await stat(path).then(
        ({ mtimeMs }) => mtimeMs,
        () => Infinity,
      );
      if (writtenAt < Date.now() - UNPLACED_MS) await rm(path, { force: true });
    }
  }

  async #write(use: SlotUse): Promise<string> {
    const path = join(this.dir, `.${randomBytes(6).toString('hex')}`);
    const record: SlotRecord = { ...use, hostTag: this.hostTag };
    const write = () => writeFile(path, JSON.stringify(record), { flag: 'wx' });
    try {
      await write().catch(async (err: unknown) => {
        if (!hasErrno(err, 'ENOENT')) throw err;
        await mkdir(this.dir, { recursive: true, mode: 0o755 });
        await write();
      });
    } catch (err) {
      // A full file system takes the name and refuses the content.
      await rm(path, { force: true });
      throw err;
    }
    return path;
  }

  async #claim(record: string, slot: AddressSlot): Promise<boolean> {
    try {
      await link(record, join(this.dir, slot.hostSide));
      return true;
    } catch (err) {
      if (hasErrno(err, 'EEXIST')) return false;
      throw err;
    }
  }

  #remember(id: string, slot: AddressSlot): AddressSlot {
    this.#seen.set(id, slot);
    return slot;
  }

  /** Slots of this host in its range. */
  async #own(): Promise<{ slot: AddressSlot; use: SlotUse }[]> {
    return (await this.#records()).flatMap(({ name, use }) => {
      const slot = this.numbered((toNumber(name) - this.#first) / 2);
      return slot === undefined ? [] : [{ slot, use }];
    });
  }

  async #records(): Promise<{ name: string; use: SlotUse }[]> {
    const names = (await namesIn(this.dir)).filter((name) => !name.startsWith('.'));
    const uses = await Promise.all(names.map((name) => this.#read(name)));
    return names.flatMap((name, index) => {
      const use = uses[index];
      return use === undefined ? [] : [{ name, use }];
    });
  }

  /** Undefined for what is not this host's. */
  async #read(name: string): Promise<SlotUse | undefined> {
    const path = join(this.dir, name);
    try {
      const use = parseRecord(await readFile(path, 'utf8'));
      if (use !== undefined) return use.hostTag === this.hostTag ? use : undefined;
    } catch (err) {
      if (hasErrno(err, 'ENOENT')) return undefined;
      // Whatever it was, its address stays taken, and the others are found without it.
      this.warn({ err, path }, 'an address record cannot be read; delete it if no sandbox uses that address');
      return undefined;
    }
    this.warn({ path }, 'an address record is of another format; delete it if no sandbox uses that address');
    return undefined;
  }

  #slot(index: number): AddressSlot {
    const even = this.#first + index * 2;
    return { index, hostSide: toDotted(even), guestSide: toDotted(even + 1) };
  }
}

/** Undefined for another format. */
function parseRecord(text: string): SlotRecord | undefined {
  const { id, recipe, hostTag, complete } = (JSON.parse(text) as Partial<SlotRecord> | null) ?? {};
  // One of the two says what the slot is for.
  if (typeof hostTag !== 'string' || (typeof id !== 'string' && typeof recipe !== 'string')) return undefined;
  return {
    hostTag,
    complete: complete === true,
    ...(typeof id === 'string' ? { id } : {}),
    ...(typeof recipe === 'string' ? { recipe } : {}),
  };
}

/** Where the search for a free pair begins: spread, so that a lookup finds its own at once. */
function startOf(id: string, count: number): number {
  let hash = 2_166_136_261;
  for (const char of id) hash = Math.imul(hash ^ char.charCodeAt(0), 16_777_619) >>> 0;
  return hash % count;
}

function addressesInUse(): Set<string> {
  return new Set(
    Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address)),
  );
}
