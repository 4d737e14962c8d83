import type { AddressSlot, AddressSlots, SlotUse } from './address-slots.js';

export interface PoolParts {
  slots: AddressSlots;
  /** How many networks are kept ahead; with 0 those of an earlier setting are removed and none is made. */
  size: number;
  /** Tells networks that are made as this worker makes them from those of another version or setting. */
  recipe: string;
  /** Makes all of a network in a slot; leaves what it made when it fails. */
  make: (slot: AddressSlot, signal: AbortSignal) => Promise<void>;
  /** Whether what was made is still as it was made; mends what it can. */
  verify: (slot: AddressSlot) => Promise<boolean>;
  /** Whether it is there at all, in no time. */
  isThere: (slot: AddressSlot) => Promise<boolean>;
  remove: (slot: AddressSlot) => Promise<void>;
  isFree: (slot: AddressSlot) => Promise<boolean>;
  warn: (fields: Record<string, unknown>, message: string) => void;
}

/**
 * Networks without a sandbox, made ahead in the background so that whoever comes next need not wait for the kernel. Each
 * has a slot record without an id: `complete` when it can be taken. A worker that dies leaves them; the next one looks at
 * each and keeps those that are as it would have made them.
 */
export class NetworkPool {
  #ready: AddressSlot[] = [];
  /** Numbers of those that were taken: their records say so a moment later. */
  readonly #taken = new Set<number>();
  #filling: Promise<void> | undefined;
  #isAdopted = false;
  /** While it is open. */
  #closing: AbortController | undefined;

  constructor(private readonly parts: PoolParts) {}

  /** From now on networks are made ahead, in the background; what is there of an earlier worker is taken over first. */
  open(): void {
    this.#closing ??= new AbortController();
    this.fill();
  }

  /** Makes what is missing, in the background. To be called after each that was taken. */
  fill(): void {
    const signal = this.#closing?.signal;
    if (signal === undefined) return;
    this.#filling ??= this.#fill(signal)
      // Nothing depends on the pool; the next one that is asked for tries again.
      .catch((err: unknown) => this.parts.warn({ err }, 'no network can be made ahead'))
      .finally(() => (this.#filling = undefined));
  }

  /** When nothing is made ahead any more: all are, or one could not be. */
  async settled(): Promise<void> {
    await this.#filling;
  }

  /** One that can be used at once, for the caller alone; undefined when there is none. */
  async take(): Promise<AddressSlot | undefined> {
    for (let slot = this.#ready.shift(); slot !== undefined; slot = this.#ready.shift()) {
      this.#taken.add(slot.index);
      const use = await this.parts.slots.use(slot);
      if (use?.id !== undefined) continue;
      if (use?.complete === true && (await this.parts.isThere(slot))) return slot;
      // Somebody deleted it meanwhile, or a part of it.
      await this.#discard(slot);
    }
    return undefined;
  }

  /** Ends the filling and removes all that is kept ahead, also what another worker of this host left. */
  async close(): Promise<void> {
    this.#closing?.abort();
    await this.#filling;
    this.#closing = undefined;
    this.#ready = [];
    for (const slot of (await this.#ahead()).keys()) await this.#discard(slot);
  }

  async #fill(signal: AbortSignal): Promise<void> {
    if (!this.#isAdopted) await this.#adopt();
    while (this.#ready.length < this.parts.size && !signal.aborted) await this.#add(signal);
  }

  /** Also after a failure, of which something may be left. */
  async #adopt(): Promise<void> {
    this.#ready = [];
    const kept: AddressSlot[] = [];
    for (const [slot, use] of await this.#ahead()) {
      const isWanted = use.complete && use.recipe === this.parts.recipe && kept.length < this.parts.size;
      const isGood = isWanted && (await this.parts.isThere(slot)) && (await this.parts.verify(slot));
      if (isGood) kept.push(slot);
      else await this.#discard(slot);
    }
    this.#ready = kept;
    this.#isAdopted = true;
  }

  async #ahead(): Promise<Map<AddressSlot, SlotUse>> {
    const found = await this.parts.slots.listAhead();
    return new Map(found.filter(({ slot }) => !this.#taken.has(slot.index)).map(({ slot, use }) => [slot, use]));
  }

  async #add(signal: AbortSignal): Promise<void> {
    const { slots, recipe, make, isFree } = this.parts;
    const slot = await slots.take({ recipe, complete: false }, isFree);
    this.#taken.delete(slot.index);
    try {
      await make(slot, signal);
      await slots.setUse(slot, { recipe, complete: true });
      this.#ready.push(slot);
    } catch (err) {
      this.#isAdopted = false;
      await this.#discard(slot);
      if (!signal.aborted) throw err;
    }
  }

  async #discard(slot: AddressSlot): Promise<void> {
    await this.parts.remove(slot);
    await this.parts.slots.release(slot);
  }
}
