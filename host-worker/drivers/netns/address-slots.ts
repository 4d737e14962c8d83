import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';
import { namesIn } from '../../sandbox-folder.js';

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

interface SlotRecord {
  id: string;
  hostTag: string;
  /** The network at this address was finished and not begun to be taken down. */
  complete: boolean;
}

/**
 * Hands out address pairs. A pair is taken by linking a complete file to a name that
 * tells the address, in one directory for the whole machine: several host workers on
 * it share the address space and must not clash, and no reader ever sees half a file.
 */
export class AddressSlots {
  readonly #first: number;
  readonly #count: number;

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

  /** The slot of a sandbox, taken now unless it has one. */
  async take(id: string): Promise<AddressSlot> {
    const own = await this.find(id);
    if (own !== undefined) return own;
    await mkdir(this.dir, { recursive: true, mode: 0o755 });
    const record = await this.#write({ id, hostTag: this.hostTag, complete: false });
    try {
      const inUse = addressesInUse();
      const start = startOf(id, this.#count);
      for (let step = 0; step < this.#count; step += 1) {
        const slot = this.#slot((start + step) % this.#count);
        // Somebody else's interface, or one of ours that the kernel has not finished removing.
        if (inUse.has(slot.hostSide) || inUse.has(slot.guestSide)) continue;
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
    // Nearly always the first one looked at; the rest is for collisions.
    const preferred = this.#slot(startOf(id, this.#count));
    if (await this.#belongsTo(preferred.hostSide, id)) return preferred;
    for (const name of await this.#names()) {
      const slot = this.#named(name);
      if (slot !== undefined && (await this.#belongsTo(name, id))) return slot;
    }
    return undefined;
  }

  async isComplete(slot: AddressSlot): Promise<boolean> {
    return (await this.#read(slot.hostSide))?.complete === true;
  }

  async setComplete(id: string, slot: AddressSlot, complete: boolean): Promise<void> {
    await rename(await this.#write({ id, hostTag: this.hostTag, complete }), join(this.dir, slot.hostSide));
  }

  async release(slot: AddressSlot): Promise<void> {
    await rm(join(this.dir, slot.hostSide), { force: true });
  }

  /** Ids that hold a slot for this host. */
  async list(): Promise<string[]> {
    const ids: string[] = [];
    for (const name of await this.#names()) {
      const record = await this.#read(name);
      if (record?.hostTag === this.hostTag) ids.push(record.id);
    }
    return ids;
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

  async #write(record: SlotRecord): Promise<string> {
    const path = join(this.dir, `.${randomBytes(6).toString('hex')}`);
    await writeFile(path, JSON.stringify(record), { flag: 'wx' });
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

  async #belongsTo(name: string, id: string): Promise<boolean> {
    const record = await this.#read(name);
    return record?.id === id && record.hostTag === this.hostTag;
  }

  async #read(name: string): Promise<SlotRecord | undefined> {
    const path = join(this.dir, name);
    try {
      const record = JSON.parse(await readFile(path, 'utf8')) as Partial<SlotRecord> | null;
      const { id, hostTag, complete } = record ?? {};
      if (typeof id === 'string' && typeof hostTag === 'string') return { id, hostTag, complete: complete === true };
    } catch (err) {
      if (hasErrno(err, 'ENOENT')) return undefined;
      // Whatever it was, its address stays taken, and the others are found without it.
      this.warn({ err, path }, 'an address record cannot be read; delete it if no sandbox uses that address');
      return undefined;
    }
    this.warn({ path }, 'an address record is of another format; delete it if no sandbox uses that address');
    return undefined;
  }

  async #names(): Promise<string[]> {
    return (await namesIn(this.dir)).filter((name) => !name.startsWith('.'));
  }

  #slot(index: number): AddressSlot {
    const even = this.#first + index * 2;
    return { index, hostSide: toDotted(even), guestSide: toDotted(even + 1) };
  }

  /** Undefined when the address lies outside of this host's range. */
  #named(name: string): AddressSlot | undefined {
    return this.numbered((toNumber(name) - this.#first) / 2);
  }
}

export function parseCidr(cidr: string): { first: number; size: number } {
  const match = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/.exec(cidr);
  const [address, bits] = [toNumber(match?.[1] ?? ''), Number(match?.[2])];
  if (!Number.isInteger(address) || !(bits >= 8 && bits <= 30)) {
    throw new DomainError(
      'invalid_request',
      `"${cidr}" is no IPv4 range; give one such as 10.96.0.0/16, from /8 to /30`,
    );
  }
  const size = 2 ** (32 - bits);
  return { first: address - (address % size), size };
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

function toNumber(dotted: string): number {
  const parts = dotted
    .split('.')
    .map((part) => (/^\d{1,3}$/.test(part) && Number(part) < 256 ? Number(part) : Number.NaN));
  return parts.length === 4 ? parts.reduce((sum, part) => sum * 256 + part, 0) : Number.NaN;
}

function toDotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}
