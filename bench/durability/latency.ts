import { quantile } from '../statistics.js';
import { Refused, type Orchestrator } from './orchestrator.js';

export const VERBS = ['create', 'pause', 'resume'] as const;
export type Verb = (typeof VERBS)[number];

export type Latencies = Record<Verb, number[]>;

export interface Quantiles {
  p50: number;
  p95: number;
}

/** One life on each in turn and nobody killed, so that what slows the machine for a while slows all alike. */
export async function measureLatency(
  orchestrators: readonly Orchestrator[],
  rounds: number,
  prefix: string,
  note: (text: string) => void,
): Promise<Map<Orchestrator, Latencies>> {
  const all = new Map<Orchestrator, Latencies>(
    orchestrators.map((one) => [one, { create: [], pause: [], resume: [] }]),
  );
  // The first of everything loads files and compiles code; it is not counted.
  for (let round = -1; round < rounds; round += 1) {
    note(`round ${round + 1} of ${rounds}`);
    for (const [orchestrator, latencies] of all) {
      const measured = await oneLife(orchestrator, `${prefix}${round + 1}`).catch((err: unknown) => {
        if (!(err instanceof Refused)) throw err;
        note(`${orchestrator.name} is not counted: ${err.message}`);
      });
      if (round >= 0 && measured !== undefined) for (const verb of VERBS) latencies[verb].push(measured[verb]);
    }
  }
  return all;
}

export function quantiles(latencies: Latencies): Record<Verb, Quantiles> {
  const of = (verb: Verb) => ({ p50: quantile(latencies[verb], 0.5), p95: quantile(latencies[verb], 0.95) });
  return { create: of('create'), pause: of('pause'), resume: of('resume') };
}

async function oneLife(orchestrator: Orchestrator, name: string): Promise<Record<Verb, number>> {
  let id = '';
  const create = await timed(async () => (id = await orchestrator.create(name, 0)));
  const pause = await timed(() => orchestrator.pause(id));
  const resume = await timed(() => orchestrator.resume(id));
  await orchestrator.destroy(id);
  return { create, pause, resume };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
