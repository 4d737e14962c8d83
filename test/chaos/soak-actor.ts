import { setTimeout as delay } from 'node:timers/promises';
import type { SandboxState } from '../../workflows/contract/states.js';
import type { Answered } from './caller.js';
import { forgotten, type GuestFacts } from './checks/guest-memory.js';
import { lost, stuck, type Violation, type ViolationKind } from './checks/violation.js';
import type { Rig } from './rig.js';
import type { Dice } from './seeds.js';
import { createRequest, destroyRequest, sandboxOf, TIMEOUT_SECONDS, verbRequest } from './stories.js';

export const SOAK_VERBS = ['create', 'exec', 'pause', 'resume', 'extend', 'destroy'] as const;
export type SoakVerb = (typeof SOAK_VERBS)[number];

/** One thing that was asked of a sandbox, and whether what came of it is as it should be. */
export class Deed {
  readonly violations: Violation[] = [];
  turnedBack = false;

  constructor(
    readonly verb: SoakVerb,
    readonly sandboxId: string,
  ) {}

  has(kind: ViolationKind): boolean {
    return this.violations.some((violation) => violation.kind === kind);
  }
}

/** What the model knows of the sandbox that an actor has. */
interface Model {
  id: string;
  key: string;
  state: 'running' | 'paused';
  guest: GuestFacts;
}

const PAUSE_MS = { from: 100, to: 3_000 };
/** A sandbox whose host was not heard of for a while comes back by itself. */
const MISSING_MS = 120_000;
const LOOK_AGAIN_MS = 250;

/** Somebody who has one sandbox at a time and does with it what chance says, knowing what must be true of it. */
export class SoakActor {
  readonly deeds: Deed[] = [];
  #model: Model | undefined;
  #made = 0;

  constructor(
    private readonly rig: Rig,
    private readonly dice: Dice,
    private readonly name: string,
    /** Lets as many at a time as the machine can bear. */
    private readonly turn: <T>(work: () => Promise<T>) => Promise<T>,
  ) {}

  async run(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      await delay(this.dice.between(PAUSE_MS.from, PAUSE_MS.to));
      if (!until.aborted) await this.turn(() => this.#act(this.#choose()));
    }
  }

  /** What is left is looked at once more and ended. */
  async end(): Promise<void> {
    if (this.#model?.state === 'paused') await this.#act('resume');
    if (this.#model?.state === 'running') await this.#act('exec');
    if (this.#model !== undefined) await this.#act('destroy');
  }

  #choose(): SoakVerb {
    if (this.#model === undefined) return 'create';
    if (this.#model.state === 'paused') return this.dice.pick(['resume', 'resume', 'resume', 'destroy']);
    return this.dice.pick(['exec', 'exec', 'pause', 'pause', 'extend', 'destroy']);
  }

  async #act(verb: SoakVerb): Promise<void> {
    const key = this.#model?.key ?? `${this.name}-${this.#made++}`;
    const deed = new Deed(verb, this.#model?.id ?? sandboxOf(key));
    this.deeds.push(deed);
    try {
      await this.#do(verb, key, deed);
    } catch (error) {
      deed.violations.push(stuck((error as Error).message));
      // Nothing is known of it any more; a leak check finds what it leaves.
      this.#model = undefined;
    }
    for (const twice of await this.rig.doubled(deed.sandboxId))
      deed.violations.push({ kind: 'duplicated', what: twice });
  }

  async #do(verb: SoakVerb, key: string, deed: Deed): Promise<void> {
    const id = deed.sandboxId;
    const again = `${key}-${this.deeds.length}`;
    switch (verb) {
      case 'create':
        return this.#create(id, key, await this.rig.ask(createRequest(key, this.rig.guest)), deed);
      case 'exec':
        return this.#look(deed);
      case 'extend':
        await this.rig.demand(
          { method: 'POST', path: `/v1/sandboxes/${id}/timeout`, body: { timeout_seconds: TIMEOUT_SECONDS } },
          200,
        );
        return;
      case 'pause':
      case 'resume':
        return this.#settle(await this.rig.ask(verbRequest(verb, id, again)), deed);
      case 'destroy':
        await this.rig.demand(destroyRequest(id, again), 200);
        this.#model = undefined;
        return;
    }
  }

  async #create(id: string, key: string, answer: Answered, deed: Deed): Promise<void> {
    if (answer.status !== 201) {
      deed.turnedBack = true;
      const state = await this.#stateOf(id);
      if (state !== 'error' && state !== undefined)
        deed.violations.push(lost(`create was refused (${answer.code}) and it is ${state}`));
      if (state !== undefined) await this.rig.demand(destroyRequest(id, `${key}-last`), 200);
      return;
    }
    const { api, probe } = this.rig;
    await probe.plant(api, id, key);
    this.#model = { id, key, state: 'running', guest: await probe.look(api, id) };
  }

  /** After a pause or a resume, whatever was answered: its state is one of two, and tells the truth. */
  async #settle(answer: Answered, deed: Deed): Promise<void> {
    const model = this.#model;
    if (model === undefined) return;
    const wanted = deed.verb === 'pause' ? 'paused' : 'running';
    const state = await this.#stateOf(model.id);
    deed.turnedBack = answer.status !== 200;
    if (state !== 'running' && state !== 'paused') {
      deed.violations.push(lost(`${deed.verb} was answered ${answer.status} ${answer.code ?? ''} and it is ${state}`));
      this.#model = undefined;
      return;
    }
    if (answer.status === 200 && state !== wanted)
      deed.violations.push(lost(`${deed.verb} succeeded and it is ${state}`));
    model.state = state;
    if (state === 'running') await this.#look(deed);
  }

  async #look(deed: Deed): Promise<void> {
    const model = this.#model;
    if (model === undefined) return;
    const { api, probe } = this.rig;
    const now = await probe.look(api, model.id);
    deed.violations.push(...forgotten(model.guest, now).map(lost));
    model.guest = now;
    await probe
      .checkDisk(api, model.id, model.key)
      .catch((error: unknown) => deed.violations.push(lost(`its disk is not as it was: ${(error as Error).message}`)));
  }

  /** Waits out that its host is not heard of; undefined when there is no row. */
  async #stateOf(id: string): Promise<SandboxState | undefined> {
    const deadline = Date.now() + MISSING_MS;
    for (;;) {
      const [row] = await this.rig.records.sandboxes([id]);
      if (row?.state !== 'missing' || Date.now() > deadline) return row?.state;
      await delay(LOOK_AGAIN_MS);
    }
  }
}
