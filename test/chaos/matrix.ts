import { randomBytes } from 'node:crypto';
import { Case, type CasePlan } from './case.js';
import { hasRealVms } from './chaos-platform.js';
import { leaked } from './checks/violation.js';
import { Evidence } from './evidence.js';
import { interruption, never } from './interruption.js';
import { readOptions, type MatrixOptions } from './options.js';
import { allCases, batches, crossSection, LITTLE_ROOM, ROOM, type Recorded } from './plan.js';
import { lastLine, tableOf } from './report.js';
import { Rig } from './rig.js';
import { Round, type Kill } from './round.js';
import { Dice } from './seeds.js';
import type { OperationName } from './stories.js';
import { nameOf } from './boundary.js';

/** What the simulated VMM takes beyond what it really does, so that an instant of chance may lie within a step. */
const TIMES = { bootMs: 100, restoreMs: 100, saveMs: 100 };
/** Operations that are under way at once when a process is killed at an instant of chance. */
const RANDOM_CASES = 12;
const RANDOM_ROUNDS = 2;
/** By then most of them are over. */
const RANDOM_WITHIN_MS = 3_000;

/** How often what did not come about is tried again. */
const AGAIN = 2;

const say = (text: string) => void process.stdout.write(`${text}\n`);

/** The kill matrix: every process killed at every boundary of every operation, and some at instants of chance. */
class Matrix {
  readonly #cases: Case[] = [];
  /** What a slow machine kept from being as it was meant: an operation took another way than the recorded one. */
  readonly #void: CasePlan[] = [];
  readonly #dice: Dice;
  /** Ids come from it, so no two runs have any in common. */
  readonly #run = randomBytes(4).toString('hex');
  #keys = 0;

  constructor(
    private readonly rig: Rig,
    private readonly options: MatrixOptions,
  ) {
    this.#dice = new Dice(options.seed);
  }

  async run(): Promise<boolean> {
    const recorded = await this.#record();
    const plans = this.#choose(recorded);
    if (this.options.list) {
      for (const plan of plans)
        say(`${plan.operation} × ${plan.process} ${plan.boundary === undefined ? '' : nameOf(plan.boundary)}`);
      say(`${plans.length} cases`);
      return true;
    }
    await this.#rounds(plans);
    for (let again = 1; again <= AGAIN && this.#void.length > 0; again++) {
      say(`${this.#void.length} cases are tried again`);
      await this.#rounds(this.#void.splice(0));
    }
    await this.#randomRounds();
    return this.#conclude();
  }

  async #rounds(plans: readonly CasePlan[]): Promise<void> {
    const rounds = batches(plans, hasRealVms(this.rig.platform.kind) ? LITTLE_ROOM : ROOM);
    for (const [index, batch] of rounds.entries()) {
      const process = batch[0]?.process;
      if (process !== undefined) await this.#round(`${index + 1}/${rounds.length}`, batch, { process });
    }
  }

  /** One run of each operation in which nothing is killed: what it passes are the boundaries. */
  async #record(): Promise<Recorded> {
    const cases = this.options.operations.map((operation) => this.#case({ operation, process: 'api' }));
    const round = new Round(this.rig, cases, undefined);
    await round.run();
    await this.#blameLeaks(cases);
    for (const one of cases) if (one.isBad) await this.#tell(one);
    if (cases.some((one) => one.isBad)) throw new Error('not even a run without any kill is as it should be');
    const recorded = new Map<OperationName, Case['track']>(cases.map((one) => [one.plan.operation, one.track]));
    for (const [operation, track] of recorded) say(`recorded ${operation}: ${track?.passages.map(nameOf).join(', ')}`);
    return new Map([...recorded].map(([operation, track]) => [operation, track?.passages ?? []]));
  }

  #choose(recorded: Recorded): CasePlan[] {
    const all = allCases(recorded, this.options.processes);
    if (this.options.short) return crossSection(all, this.#dice);
    const { cases } = this.options;
    if (cases === undefined) return all;
    // Of each process the same share.
    const each = Math.ceil(cases / this.options.processes.length);
    return this.options.processes.flatMap((process) =>
      this.#dice.shuffled(all.filter((plan) => plan.process === process)).slice(0, each),
    );
  }

  async #randomRounds(): Promise<void> {
    const { processes, operations, short, cases } = this.options;
    for (let round = 1; round <= (short || cases !== undefined ? 0 : RANDOM_ROUNDS); round++) {
      for (const process of processes) {
        const dice = this.#dice.fork();
        const plans = Array.from({ length: RANDOM_CASES }, () => ({ operation: dice.pick(operations), process }));
        await this.#round(`random ${round}/${RANDOM_ROUNDS}`, plans, {
          process,
          afterMs: dice.between(0, RANDOM_WITHIN_MS),
        });
      }
    }
  }

  async #round(title: string, plans: readonly CasePlan[], kill: Kill): Promise<void> {
    const cases = plans.map((plan) => this.#case(plan));
    const round = new Round(this.rig, cases, kill);
    await round.run();
    await this.#blameLeaks(cases);
    this.#cases.push(...cases.filter((one) => !one.isVoid));
    this.#void.push(...cases.filter((one) => one.isVoid).map(({ plan }) => plan));
    const times = Object.entries(round.timings).map(([name, ms]) => `${name} ${(ms / 1000).toFixed(1)}`);
    const at = kill.afterMs === undefined ? '' : ` after ${kill.afterMs} ms`;
    say(
      `${title} ${kill.process} killed${at}: ${lastLine(cases.filter((one) => !one.isVoid))} (s: ${times.join(', ')})`,
    );
    for (const one of cases) if (one.isBad || one.isVoid) await this.#tell(one);
    if (cases.some((one) => one.isBad)) await this.rig.forgetLeaks();
  }

  async #blameLeaks(cases: readonly Case[]): Promise<void> {
    for (const line of await this.rig.leaks.find()) {
      const owner = cases.find(({ subject }) => line.includes(subject));
      (owner ?? cases[0])?.blame(leaked(owner === undefined ? `${line} (whose is not known)` : line));
    }
  }

  async #tell(one: Case): Promise<void> {
    say(await new Evidence(this.rig).of(one));
  }

  #case(plan: CasePlan): Case {
    return new Case(plan, `c${this.#run}-${this.#keys++}`);
  }

  #conclude(): boolean {
    for (const note of new Set(this.rig.notes)) say(`note: ${note}`);
    for (const { operation, process, boundary } of this.#void)
      say(`could not be tried: ${operation} × ${process} ${boundary === undefined ? '' : nameOf(boundary)}`);
    say('');
    say(tableOf(this.#cases));
    say('');
    say(lastLine(this.#cases));
    return this.#void.length === 0 && !this.#cases.some((one) => one.isBad);
  }
}

export async function main(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  say(`seed ${options.seed}`);
  const { qemu, cluster, lab } = options;
  const rig = await Rig.open({ qemu, cluster, times: TIMES, ...(lab === undefined ? {} : { lab }) });
  let good = false;
  try {
    good = await Promise.race([
      new Matrix(rig, options).run(),
      interruption(),
      rig.platform.lab?.lab.failed ?? never(),
    ]);
  } finally {
    await rig.close(!good || options.keep);
  }
  if (!good) process.exitCode = 1;
}

await main(process.argv.slice(2));
