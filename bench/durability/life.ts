import { setTimeout as delay } from 'node:timers/promises';
import { forgotten, type GuestFacts } from '../../test/chaos/checks/guest-memory.js';
import { Refused, type Claim, type Orchestrator } from './orchestrator.js';

const LOOK_AGAIN_MS = 100;
/** A request that has not led to its goal by then is given up. */
const PATIENCE_MS = 180_000;
/** How often an owner asks again for what was answered with no. */
const REFUSALS = 5;
/** How long a guest of a sandbox that is said to run may not answer. */
const SILENCE_MS = 20_000;
/** Longer than a host-side process needs to come back: its guest is spoken to before it is left alone. */
const TIMEOUT_SECONDS = 8;

/** What its owner does with a sandbox; every life begins with create. */
export type Errand = 'pause' | 'resume' | 'destroy' | 'leave to its timeout';
export const STORIES: readonly (readonly Errand[])[] = [
  ['pause'],
  ['pause', 'resume'],
  ['pause', 'resume', 'pause', 'destroy'],
  ['leave to its timeout'],
];

/** What became of something that its owner was promised. */
class Lost extends Error {}
class Stuck extends Error {}

/**
 * One sandbox from the eyes of a patient owner: who gets no answer looks and asks again, who is refused asks again a few
 * times, and who was told that a sandbox exists expects its memory and its disk.
 */
export class Life {
  id: string | undefined;
  /** What its guest said last; from then on it is a promise. */
  facts: GuestFacts | undefined;
  destroyed = false;
  lost: string | undefined;
  stuck: string | undefined;
  /** Requests that were answered with no. */
  refused: string[] = [];

  constructor(
    private readonly orchestrator: Orchestrator,
    readonly name: string,
    private readonly errands: readonly Errand[],
  ) {}

  get seed(): string {
    return this.name;
  }

  live(): Promise<void> {
    return this.#facing(async () => {
      await this.#create();
      await this.#say(`write-disk ${this.seed}`);
      this.facts = await this.#look();
      for (const errand of this.errands) await this.#do(errand);
    });
  }

  /** Whether what was promised is there; for when all is quiet. */
  async verify(): Promise<void> {
    if (this.facts === undefined || this.destroyed || this.lost !== undefined || this.stuck !== undefined) return;
    await this.#facing(() => this.#check());
  }

  async #facing(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (err) {
      if (err instanceof Lost) this.lost = err.message;
      else if (err instanceof Stuck) this.stuck = err.message;
      else throw err;
      // It is of no use to anybody any more.
      if (this.lost !== undefined && this.id !== undefined) await this.#destroy().catch(() => undefined);
    }
  }

  async #do(errand: Errand): Promise<void> {
    if (errand === 'pause') return this.#reach('paused', (id) => this.orchestrator.pause(id));
    if (errand === 'destroy') return this.#destroy();
    if (errand === 'leave to its timeout') return this.#reach('paused', undefined);
    await this.#reach('running', (id) => this.orchestrator.resume(id));
    await this.#check();
  }

  /** Until there is one that runs. One that could not be made was not promised; its owner removes it and asks anew. */
  async #create(): Promise<void> {
    const timeout = this.errands.includes('leave to its timeout') ? TIMEOUT_SECONDS : 0;
    const until = deadline();
    for (let attempt = 1; !until();) {
      const name = attempt === 1 ? this.name : `${this.name}r${attempt}`;
      try {
        this.id = await this.orchestrator.create(name, timeout);
        return;
      } catch (err) {
        if (!(err instanceof Refused)) {
          await delay(LOOK_AGAIN_MS);
          continue;
        }
        this.refused.push(err.message);
        if (err.id !== undefined) await this.#remove(err.id);
        attempt += 1;
        if (attempt > REFUSALS) throw new Stuck(`it cannot be created: ${err.message}`);
      }
    }
    throw new Stuck('its create is never answered');
  }

  async #check(): Promise<void> {
    const before = this.facts;
    await this.#say(`check-disk ${this.seed}`);
    this.facts = await this.#look();
    const problems = before === undefined ? [] : forgotten(before, this.facts);
    if (problems.length > 0) throw new Lost(problems.join('; '));
  }

  async #look(): Promise<GuestFacts> {
    return {
      nonce: await this.#say('nonce'),
      count: Number(await this.#say('count')),
      ticks: Number(await this.#say('ticks')),
    };
  }

  /** A program in the guest; one that is paused is resumed for it. */
  async #say(command: string): Promise<string> {
    const silent = deadline(SILENCE_MS);
    for (;;) {
      await this.#reach('running', (id) => this.orchestrator.resume(id));
      try {
        return await this.orchestrator.exec(this.id ?? '', command);
      } catch (err) {
        const { message } = err as Error;
        if (/exit code/.test(message)) throw new Lost(message);
        if (silent()) throw new Lost(`it is said to run, and does not answer ${command}: ${message}`);
        await delay(LOOK_AGAIN_MS);
      }
    }
  }

  async #destroy(): Promise<void> {
    if (this.id === undefined) return;
    await this.#remove(this.id);
    this.destroyed = true;
  }

  async #remove(id: string): Promise<void> {
    const until = deadline();
    for (let refusals = 0; !until(); await delay(LOOK_AGAIN_MS)) {
      try {
        if ((await this.orchestrator.claim(id)) === 'unknown') return;
        await this.orchestrator.destroy(id);
      } catch (err) {
        if (err instanceof Refused) this.refused.push(err.message);
        if (err instanceof Refused && (refusals += 1) > REFUSALS) break;
      }
    }
    throw new Stuck('it cannot be destroyed');
  }

  /** Looks until the sandbox is there, asking for it whenever it is not on its way. */
  async #reach(goal: Claim, ask: ((id: string) => Promise<void>) | undefined): Promise<void> {
    const id = this.id ?? '';
    const until = deadline();
    let refusals = 0;
    let claim: Claim | undefined;
    for (; !until(); await delay(LOOK_AGAIN_MS)) {
      claim = await this.orchestrator.claim(id).catch(() => undefined);
      if (claim === goal) return;
      if (claim === 'unknown') throw new Lost('nobody knows it any more');
      if (claim === 'error') throw new Lost('it is in error');
      if (claim === undefined || claim === 'busy' || ask === undefined) continue;
      try {
        await ask(id);
      } catch (err) {
        if (!(err instanceof Refused)) continue;
        this.refused.push(err.message);
        if ((refusals += 1) > REFUSALS) throw new Stuck(`it stays ${claim}: ${err.message}`);
      }
    }
    throw new Stuck(`it is ${claim ?? 'not to be seen'} instead of ${goal}`);
  }
}

function deadline(ms = PATIENCE_MS): () => boolean {
  const end = Date.now() + ms;
  return () => Date.now() > end;
}
