import { type Pair, compare, median } from '../statistics.js';
import type { Call } from './vm-life.js';

export const EGRESS = ['open', 'closed'] as const;
export type Egress = (typeof EGRESS)[number];

/** What was measured. Milliseconds in pairs, bytes as they are. */
export interface HostFigures {
  calls: Map<Call, Pair[]>;
  /** From the pool (`torpor`) beside built when asked for (`direct`). */
  pool: Record<Egress, Pair[]>;
  saves: { saved: number; resident: number }[];
  /** `dirty` is undefined where the kernel does not count it. */
  dirtySaves: { saved: number; dirty: number | undefined }[];
}

export interface HostRow {
  name: string;
  unit: 'ms' | 'MiB';
  ours: number;
  /** What it is measured against. */
  against: string;
  baseline: number;
  ratio: number;
  /** Where 95 % of the ratios of resampled pairs lie; undefined for what was not measured in pairs. */
  interval: [number, number] | undefined;
  /** At most so much; undefined where nothing is promised. */
  bar: number | undefined;
}

const MAX_OVERHEAD = 1.2;
const MAX_POOL_SHARE = 0.2;
const MAX_ON_DEMAND_SHARE = 0.4;
const MAX_SAVED_PER_RESIDENT = 1.05;
const MIB = 1024 * 1024;

export function hostRows({ calls, pool, saves, dirtySaves }: HostFigures): HostRow[] {
  const rows = [...calls].map(([call, pairs]) => timed(call, 'bare tools', pairs, MAX_OVERHEAD));
  for (const egress of EGRESS)
    rows.push(timed(`network from the pool, egress ${egress}`, 'built when asked for', pool[egress], MAX_POOL_SHARE));
  const [eager, onDemand] = (['eager', 'on demand'] as const).map((mode) =>
    (calls.get(`restore ${mode} to first agent answer`) ?? []).map(({ torpor }) => torpor),
  );
  const restores = (onDemand ?? []).map((torpor, index) => ({ torpor, direct: eager?.[index] ?? Number.NaN }));
  rows.push(timed('restore on demand', 'restore eager', restores, MAX_ON_DEMAND_SHARE));
  rows.push(
    bytes(
      'snapshot',
      'resident',
      saves.map(({ saved }) => saved),
      saves.map(({ resident }) => resident),
      MAX_SAVED_PER_RESIDENT,
    ),
  );
  for (const { saved, dirty } of dirtySaves)
    if (dirty !== undefined) rows.push(bytes('snapshot', 'dirty since the restore', [saved], [dirty], undefined));
  return rows;
}

export function meets({ ratio, bar }: HostRow): boolean {
  return bar === undefined || ratio <= bar;
}

function timed(name: string, against: string, pairs: readonly Pair[], bar: number): HostRow {
  const { torporMs, directMs, ratio, interval } = compare(pairs);
  return { name, unit: 'ms', ours: torporMs, against, baseline: directMs, ratio, interval, bar };
}

function bytes(name: string, against: string, ours: number[], baseline: number[], bar: number | undefined): HostRow {
  const [mine, theirs] = [median(ours) / MIB, median(baseline) / MIB];
  return { name, unit: 'MiB', ours: mine, against, baseline: theirs, ratio: mine / theirs, interval: undefined, bar };
}
