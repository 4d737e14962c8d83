import type { AddressSlot, AddressSlots, SlotUse } from './address-slots.js';
import type { CheckedPolicy } from './policy-rules.js';

/** What networks are made as before anybody knows for whom. */
export interface PoolKind {
  policy: CheckedPolicy;
  /** Tells networks that are made as this worker makes them from those of another version or setting. */
  recipe: string;
}

/** A network without a sandbox. */
export interface AheadNetwork {
  slot: AddressSlot;
  kind: PoolKind;
}

export interface PoolParts {
  slots: AddressSlots;
  /** How many networks are kept ahead; with 0 those of an earlier setting are removed and none is made. */
  size: number;
  /** The first is made when nobody has asked for another yet. */
  kinds: readonly [PoolKind, ...PoolKind[]];
  /** Makes all of a network in a slot; leaves what it made when it fails. */
  make: (ahead: AheadNetwork, signal: AbortSignal) => Promise<void>;
  /** Whether what was made is still as it was made; mends what it can. */
  verify: (ahead: AheadNetwork) => Promise<boolean>;
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
 *
 * In the place of one that was taken comes one of the kind that was asked for, so that what is kept ahead becomes what is
 * in demand.
 */
export class NetworkPool {
  #ready: AheadNetwork[] = [];
  /** Kinds that were asked for and not replaced yet. */
  readonly #asked: PoolKind[] = [];
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

  /** One that can be used at once, for the caller alone: of this kind where there is one. Undefined when there is none at all. */
  async take(kind: PoolKind): Promise<AheadNetwork | undefined> {
    this.#asked.push(kind);
    this.#asked.splice(0, this.#asked.length - this.parts.size);
    for (let ahead = this.#next(kind); ahead !== undefined; ahead = this.#next(kind)) {
      const { slot } = ahead;
      this.#taken.add(slot.index);
      const use = await this.parts.slots.use(slot);
      if (use?.id !== undefined) continue;
      if (use?.complete === true && (await this.parts.isThere(slot))) return ahead;
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

  #next(kind: PoolKind): AheadNetwork | undefined {
    const found = this.#ready.find((ahead) => ahead.kind === kind) ?? this.#ready[0];
    this.#ready = this.#ready.filter((ahead) => ahead !== found);
    return found;
  }

  async #fill(signal: AbortSignal): Promise<void> {
    if (!this.#isAdopted) await this.#adopt();
    while (this.#ready.length < this.parts.size && !signal.aborted) await this.#add(signal);
  }

  /** Also after a failure, of which something may be left. */
  async #adopt(): Promise<void> {
    this.#ready = [];
    const kept: AheadNetwork[] = [];
    for (const [slot, use] of await this.#ahead()) {
      const kind = this.parts.kinds.find(({ recipe }) => use.complete && use.recipe === recipe);
      const ahead = kind && kept.length < this.parts.size ? { slot, kind } : undefined;
      if (ahead && (await this.parts.isThere(slot)) && (await this.parts.verify(ahead))) kept.push(ahead);
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
    const { slots, kinds, make, isFree } = this.parts;
    const kind = this.#asked.shift() ?? kinds[0];
    const { recipe } = kind;
    const slot = await slots.take({ recipe, complete: false }, isFree);
    this.#taken.delete(slot.index);
    try {
      await make({ slot, kind }, signal);
      await slots.setUse(slot, { recipe, complete: true });
      this.#ready.push({ slot, kind });
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
