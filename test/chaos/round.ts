import { setTimeout as delay } from 'node:timers/promises';
import type { Case } from './case.js';
import type { ProcessName } from './chaos-process.js';
import { stuck } from './checks/violation.js';
import { Examination } from './examination.js';
import { inParallel } from './in-parallel.js';
import { Quiet } from './quiet.js';
import type { Rig } from './rig.js';
import { createRequest, destroyRequest, verbRequest } from './stories.js';

/** Sandboxes that are prepared or looked at at a time. */
const AT_ONCE = 8;
/** How long all operations of a round may take to come to their boundaries. */
const REACH_MS = 30_000;

export interface RoundOptions {
  /** What is not over by then counts as stuck. */
  deadlineMs?: number;
  /** Done once all is quiet and before anything is looked at, to see that the looking finds it. */
  beforeExamination?: () => Promise<void>;
}

export interface Kill {
  process: ProcessName;
  /** When no operation is held: how long after the first request. */
  afterMs?: number;
}

/** Many cases at once: each operation is held at its own boundary, one process is killed for all of them. */
export class Round {
  readonly timings: Record<string, number> = {};

  constructor(
    private readonly rig: Rig,
    readonly cases: readonly Case[],
    /** Absent: nothing is killed, and what happens is recorded. */
    private readonly kill: Kill | undefined,
    private readonly options: RoundOptions = {},
  ) {}

  async run(): Promise<void> {
    await this.#timed('prepare', () => inParallel(this.cases, AT_ONCE, (one) => this.#prepare(one)));
    await this.#timed('reach', () => this.#start());
    const killedAt = await this.#timed('kill', () => this.#strike());
    await this.#timed('quiet', () => new Quiet(this.rig, this.#prepared, killedAt, this.options.deadlineMs).wait());
    // What follows is not part of the operations that were tried.
    for (const { subject } of this.cases) this.rig.platform.director.forget(subject);
    await this.options.beforeExamination?.();
    await this.#timed('examine', () => new Examination(this.rig, this.#prepared).run());
    await this.#timed('destroy', () => this.#destroyAll());
  }

  async #prepare(one: Case): Promise<void> {
    if (one.story.from === null) return;
    await this.#bringTo(one).catch((error: unknown) => {
      one.unprepared = (error as Error).message;
    });
  }

  async #bringTo(one: Case): Promise<void> {
    const { story, subject, key } = one;
    await this.rig.demand(createRequest(key, this.rig.guest), 201);
    const { api, probe } = this.rig;
    await probe.plant(api, subject, key);
    one.guest = await probe.look(api, subject);
    if (story.from === 'paused') await this.rig.demand(verbRequest('pause', subject, `${key}-first`), 200);
  }

  get #prepared(): Case[] {
    return this.cases.filter(({ unprepared }) => unprepared === undefined);
  }

  async #start(): Promise<void> {
    await this.#ruin(this.#prepared.filter(({ story }) => story.ruined === true));
    for (const one of this.#prepared) {
      one.track = this.rig.platform.director.watch(one.subject, one.plan.boundary);
      one.answer = this.rig.ask(one.story.request(one.subject, one.requestKey, this.rig.guest));
      // Who waits for it comes later; until then a failure must not count as nobody's.
      one.answer.catch(() => undefined);
    }
    if (this.kill?.afterMs !== undefined) return delay(this.kill.afterMs);
    const held = this.#prepared.filter(({ plan }) => plan.boundary !== undefined);
    const late = AbortSignal.timeout(REACH_MS * this.rig.pace);
    const tooLate = new Promise<'late'>((resolve) => late.addEventListener('abort', () => resolve('late')));
    await Promise.all(
      held.map(async (one) => {
        if ((await Promise.race([one.track?.reached, tooLate])) === 'late') one.missed = true;
      }),
    );
  }

  async #ruin(cases: readonly Case[]): Promise<void> {
    if (cases.length === 0) return;
    const view = await this.rig.hostView();
    for (const { subject } of cases) {
      for (const pid of (await view.of(subject)).vmms) await this.rig.platform.machine.kill(pid);
    }
  }

  /** Whoever is not killed goes on at once, while the killed process is away. Returns when it was started again. */
  async #strike(): Promise<number> {
    if (this.kill === undefined) return Date.now();
    const victim = this.rig.platform.process(this.kill.process);
    await victim.kill();
    for (const { track } of this.cases) track?.release(this.kill.process);
    const startedAt = Date.now();
    await victim.start();
    return startedAt;
  }

  async #destroyAll(): Promise<void> {
    await inParallel(this.cases, AT_ONCE, async (one) => {
      if (one.plan.operation === 'build') return;
      const [row] = await this.rig.records.sandboxes([one.subject]);
      if (row === undefined || row.state === 'stopped') return;
      await this.rig
        .demand(destroyRequest(one.subject, `${one.key}-last`), 200)
        .catch((error: unknown) => one.blame(stuck(`it cannot be destroyed: ${(error as Error).message}`)));
    });
  }

  async #timed<T>(name: string, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await work();
    this.timings[name] = performance.now() - started;
    return result;
  }
}
