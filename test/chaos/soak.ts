import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Semaphore } from 'async-mutex';
import { PROCESS_NAMES, type ProcessName } from './chaos-process.js';
import { leaked } from './checks/violation.js';
import { interruption } from './interruption.js';
import { namesOf, numberOf } from './options.js';
import { aligned, lastLine } from './report.js';
import { Rig } from './rig.js';
import { Dice } from './seeds.js';
import { type Deed, SOAK_VERBS, SoakActor } from './soak-actor.js';
import { longestHistory, MemoryGauge } from './soak-gauges.js';

interface SoakOptions {
  sandboxes: number;
  minutes: number;
  seed: number;
  processes: ProcessName[];
  keep: boolean;
}

/** Operations at a time: more would only wait for the same two cores. */
const AT_ONCE = 16;
const KILL_EVERY_MS = { from: 8_000, to: 20_000 };
const TELL_EVERY_MS = 30_000;

const say = (text: string) => void process.stdout.write(`${text}\n`);

function readOptions(args: readonly string[]): SoakOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sandboxes: { type: 'string' },
      minutes: { type: 'string' },
      seed: { type: 'string' },
      processes: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  return {
    sandboxes: numberOf('--sandboxes', values.sandboxes) ?? 200,
    minutes: numberOf('--minutes', values.minutes) ?? 10,
    seed: numberOf('--seed', values.seed) ?? Date.now() % 2 ** 31,
    processes: namesOf('--processes', values.processes, PROCESS_NAMES),
    keep: values.keep,
  };
}

/** Many sandboxes with whom anything is done at any time, on a platform whose processes are killed again and again. */
class Soak {
  readonly #actors: SoakActor[];
  readonly #dice: Dice;
  readonly #kills: string[] = [];

  constructor(
    private readonly rig: Rig,
    private readonly options: SoakOptions,
  ) {
    this.#dice = new Dice(options.seed);
    const room = new Semaphore(AT_ONCE);
    const turn = <T>(work: () => Promise<T>) => room.runExclusive(work);
    const run = Date.now().toString(36);
    this.#actors = Array.from(
      { length: options.sandboxes },
      (_, index) => new SoakActor(rig, this.#dice.fork(), `s${run}-${index}`, turn),
    );
    this.#turn = turn;
  }

  readonly #turn: <T>(work: () => Promise<T>) => Promise<T>;

  get #deeds(): Deed[] {
    return this.#actors.flatMap(({ deeds }) => deeds);
  }

  async run(): Promise<boolean> {
    const over = AbortSignal.timeout(this.options.minutes * 60_000);
    const gauge = new MemoryGauge(this.rig);
    const others = [gauge.run(over), this.#killAgainAndAgain(over), this.#tellNowAndThen(over)];
    await Promise.all([...others, ...this.#actors.map((actor) => actor.run(over))]);
    say('time is up; what is left is looked at and ended');
    await Promise.all(this.#actors.map((actor) => this.#turn(() => actor.end())));
    const leaks = (await this.rig.leaks.find()).map(leaked);
    const deeds = this.#deeds;
    deeds.at(-1)?.violations.push(...leaks);
    await this.#conclude(gauge, deeds);
    return !deeds.some(({ violations }) => violations.length > 0);
  }

  async #killAgainAndAgain(over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      await delay(this.#dice.between(KILL_EVERY_MS.from, KILL_EVERY_MS.to), undefined, { signal: over }).catch(
        () => undefined,
      );
      if (over.aborted || this.options.processes.length === 0) return;
      const name = this.#dice.pick(this.options.processes);
      const victim = this.rig.platform.process(name);
      await victim.kill();
      await victim.start();
      this.#kills.push(name);
    }
  }

  async #tellNowAndThen(over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      await delay(TELL_EVERY_MS, undefined, { signal: over }).catch(() => undefined);
      say(`${this.#kills.length} kills so far: ${lastLine(this.#deeds)}`);
    }
  }

  async #conclude(gauge: MemoryGauge, deeds: readonly Deed[]): Promise<void> {
    for (const { verb, sandboxId, violations } of deeds)
      for (const { kind, what } of violations) say(`✗ ${verb} of ${sandboxId}: ${kind}: ${what}`);
    for (const note of new Set(this.rig.notes)) say(`note: ${note}`);
    const { events, workflowId, runs } = await longestHistory(this.rig);
    const counts = SOAK_VERBS.map((verb) => {
      const own = deeds.filter((deed) => deed.verb === verb);
      return [verb, String(own.length), String(own.filter(({ turnedBack }) => turnedBack).length)];
    });
    const kills = PROCESS_NAMES.map((name) => `${name} ${this.#kills.filter((killed) => killed === name).length}`);
    say(`\n${aligned([['verb', 'times', 'turned back'], ...counts])}`);
    say(`\nkills: ${kills.join(', ')}`);
    say(`longest history: ${events} events (${workflowId}), of ${runs} runs`);
    say(`\n${gauge.table()}\n`);
    say(lastLine(deeds));
  }
}

async function main(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  say(`seed ${options.seed}`);
  const rig = await Rig.open({ qemu: false, cluster: false, times: {} });
  let good = false;
  try {
    good = await Promise.race([new Soak(rig, options).run(), interruption()]);
  } finally {
    await rig.close(!good || options.keep);
  }
  if (!good) process.exitCode = 1;
}

await main(process.argv.slice(2));
