import { setTimeout as delay } from 'node:timers/promises';
import { Life, STORIES } from './life.js';
import type { PlannedKill } from './kill-plan.js';
import type { Orchestrator } from './orchestrator.js';

/** Sandboxes that are lived with at once. */
const AT_ONCE = 20;
/** Longer than it takes the toys to fail what is stale. */
const QUIET_MS = 75_000;
const LOOK_AGAIN_MS = 200;

export interface Workload {
  sandboxes: number;
  kills: readonly PlannedKill[];
  /** In front of all names: they are not to meet those of another run. */
  prefix: string;
}

/** Lives all lives while the process on the machine is killed as planned, and waits until nothing is under way. */
export async function run(
  orchestrator: Orchestrator,
  { sandboxes, kills, prefix }: Workload,
  note: (text: string) => void,
): Promise<Life[]> {
  const lives = Array.from({ length: sandboxes }, (_, index) => {
    const errands = STORIES[index % STORIES.length] ?? [];
    return new Life(orchestrator, `${prefix}${String(index).padStart(3, '0')}`, errands);
  });
  const killer = new Killer(orchestrator);
  let begun = 0;
  await inLanes(lives, async (life, index) => {
    note(`${(begun += 1)} lives begun, ${killer.strikes} kills`);
    for (const { life: of, afterMs } of kills) if (of === index) killer.strikeIn(afterMs);
    await life.live();
  });
  await killer.done();
  await quiet(orchestrator);
  return lives;
}

/** Whether what was promised is there, now that nobody is killed. */
export function verify(lives: readonly Life[]): Promise<void> {
  return inLanes(lives, (life) => life.verify());
}

async function inLanes(lives: readonly Life[], work: (life: Life, index: number) => Promise<void>): Promise<void> {
  const waiting = [...lives.entries()];
  const lane = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await work(next[1], next[0]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

/** Kills one after the other: a process that is not there yet cannot be killed. */
class Killer {
  strikes = 0;
  #last: Promise<void> = Promise.resolve();
  readonly #due: Promise<void>[] = [];

  constructor(private readonly orchestrator: Orchestrator) {}

  strikeIn(ms: number): void {
    const due = delay(ms).then(() => (this.#last = this.#last.then(() => this.#strike())));
    // Its failure is told by done(), which may come to it much later.
    due.catch(() => undefined);
    this.#due.push(due);
  }

  async done(): Promise<void> {
    await Promise.all(this.#due);
  }

  async #strike(): Promise<void> {
    await this.orchestrator.killAndRestart();
    this.strikes += 1;
  }
}

/** What is still on its way after that is stuck. */
async function quiet(orchestrator: Orchestrator): Promise<void> {
  for (const end = Date.now() + QUIET_MS; Date.now() < end; await delay(LOOK_AGAIN_MS)) {
    const claims = await orchestrator.claims().catch(() => undefined);
    if (claims !== undefined && ![...claims.values()].includes('busy')) return;
  }
}
