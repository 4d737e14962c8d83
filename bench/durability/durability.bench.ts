import { randomBytes } from 'node:crypto';
import { readConfig } from '../../cli/config.js';
import type { StepReport } from '../../cli/step-report.js';
import type { SimulatedTimes } from '../../test/simulator/simulated-hypervisor.js';
import { planKills, type PlannedKill } from './kill-plan.js';
import { measureLatency, quantiles } from './latency.js';
import type { DurabilityRow } from './durability-row.js';
import type { Life } from './life.js';
import { readTruth } from './machine-truth.js';
import { MachineWatch } from './machine-watch.js';
import type { Orchestrator } from './orchestrator.js';
import { benchRecovery, type RecoveryRow } from './recovery.bench.js';
import { TorporOrchestrator } from './torpor-orchestrator.js';
import { ToyOrchestrator } from './toy-orchestrator.js';
import { explanation } from './tables.js';
import { run, verify } from './workload.js';

/** What a guest and its memory take beyond what the simulated machine really does: time for a kill to fall into. */
const TIMES: SimulatedTimes = { bootMs: 400, restoreMs: 150, saveMs: 200 };
const LATENCY_ROUNDS = 10;

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
const EXIT_INTERRUPTED = 130;

export const CONTESTANTS = ['in-memory', 'cron', 'careful-cron', 'torpor'] as const;
export type Contestant = (typeof CONTESTANTS)[number];

export interface DurabilityOptions {
  contestants: readonly Contestant[];
  sandboxes: number;
  kills: number;
  seed: number;
  /** Kills of each process for the recovery table, which needs Torpor. */
  recoveries: number;
}

export interface DurabilityResult {
  rows: DurabilityRow[];
  recovery: RecoveryRow[];
  /** What the bench itself left on the machine; must be empty. */
  left: string[];
}

type Note = (text: string) => void;

/** Orchestrators over the same simulated machine, the same lives and the same kills. */
export async function benchDurability(options: DurabilityOptions, report: StepReport): Promise<DurabilityResult> {
  // Ids and names of concurrent runs on one machine must differ.
  const prefix = `b${randomBytes(3).toString('hex')}`;
  const watch = await MachineWatch.open();
  const open: Orchestrator[] = [];
  let result: Omit<DurabilityResult, 'left'>;
  // Whatever ends the bench: nobody else would know what to remove. When interrupted, what was being measured fails too.
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= closeAll(open, watch, report));
  const interrupted = () => void close().finally(() => process.exit(EXIT_INTERRUPTED));
  for (const signal of SIGNALS) process.once(signal, interrupted);
  try {
    result = await measure(options, prefix, open, report);
  } finally {
    await close();
    for (const signal of SIGNALS) process.off(signal, interrupted);
  }
  return { ...result, left: await watch.left() };
}

async function closeAll(open: readonly Orchestrator[], watch: MachineWatch, report: StepReport): Promise<void> {
  for (const one of open.toReversed()) {
    await watch.remember(one.host);
    await report.step(`end ${one.name}`, () => one.close());
  }
}

async function measure(
  options: DurabilityOptions,
  prefix: string,
  open: Orchestrator[],
  report: StepReport,
): Promise<Omit<DurabilityResult, 'left'>> {
  const config = readConfig();
  const start: Record<Contestant, (note: Note) => Promise<Orchestrator>> = {
    'in-memory': (note) => ToyOrchestrator.start('in-memory', config, TIMES, note),
    cron: (note) => ToyOrchestrator.start('cron', config, TIMES, note),
    'careful-cron': (note) => ToyOrchestrator.start('careful-cron', config, TIMES, note),
    torpor: (note) => TorporOrchestrator.start(TIMES, note),
  };
  for (const contestant of options.contestants) open.push(await report.step(`start ${contestant}`, start[contestant]));
  const latencies = await report.step('latency without kills', (note) =>
    measureLatency(open, LATENCY_ROUNDS, `${prefix}q`, note),
  );
  const kills = planKills(options.seed, options.kills, options.sandboxes);
  const rows: DurabilityRow[] = [];
  for (const [orchestrator, latency] of latencies) {
    const row = await report.step(
      `kill ${orchestrator.name}`,
      (note) => killAndCount(orchestrator, { sandboxes: options.sandboxes, kills, prefix: `${prefix}l` }, note),
      ({ lost, stuck }) => `${lost.length} lost, ${stuck.length} stuck`,
    );
    process.stderr.write(explanation(row));
    rows.push({ ...row, latency: quantiles(latency) });
  }
  const torpor = open.find((one) => one instanceof TorporOrchestrator);
  if (torpor === undefined || options.recoveries === 0) return { rows, recovery: [] };
  const recovery = await benchRecovery(torpor.platform, options.recoveries, `${prefix}r`, report);
  return { rows, recovery };
}

async function killAndCount(
  orchestrator: Orchestrator,
  workload: { sandboxes: number; kills: readonly PlannedKill[]; prefix: string },
  note: (text: string) => void,
): Promise<Omit<DurabilityRow, 'latency'>> {
  const started = performance.now();
  const lives = await run(orchestrator, workload, note);
  const { leaked, duplicated } = await readTruth(orchestrator);
  const claims = await orchestrator.claims();
  await verify(lives);
  const lost = lives.flatMap(({ name, lost: why }) => (why === undefined ? [] : [`${name}: ${why}`]));
  return {
    orchestrator: orchestrator.name,
    sandboxes: lives.length,
    kills: workload.kills.length,
    kept: lives.filter((life) => life.lost === undefined && life.stuck === undefined).length,
    lost,
    duplicated,
    stuck: stuckOf(lives, claims),
    leaked,
    refused: lives.flatMap(({ name, refused }) => refused.map((why) => `${name}: ${why}`)),
    seconds: (performance.now() - started) / 1000,
  };
}

/** Lives that came to no end, and what an orchestrator says is on its way although nobody waits for it. */
function stuckOf(lives: readonly Life[], claims: ReadonlyMap<string, string>): string[] {
  const of = new Map(
    lives.flatMap(({ id, name, stuck }) => (stuck === undefined ? [] : [[id ?? name, stuck] as const])),
  );
  for (const [id, claim] of claims) if (claim === 'busy' && !of.has(id)) of.set(id, 'it is on its way, for ever');
  return [...of].map(([id, why]) => `${id}: ${why}`);
}
