/** Middle of the sorted values; the mean of the two middle ones of an even number. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('there is no median of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  const at = (index: number) => sorted[index] ?? Number.NaN;
  return Number.isInteger(half) ? (at(half - 1) + at(half)) / 2 : at(Math.floor(half));
}

/** The smallest value that at least `share` of all values do not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const value = values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)];
  if (value === undefined) throw new Error('there is no quantile of nothing');
  return value;
}

export interface Pair {
  direct: number;
  torpor: number;
}

export interface Comparison {
  pairs: number;
  directMs: number;
  torporMs: number;
  /** Median of torpor over median of direct. */
  ratio: number;
  /** Where 95 % of the ratios of resampled pairs lie. */
  interval: [number, number];
}

const RESAMPLES = 2_000;

/** Pairs were measured in turn, so what slows the machine for a while slows both sides of a pair. */
export function compare(pairs: readonly Pair[], random: () => number = Math.random): Comparison {
  const ratioOf = (some: readonly Pair[]) =>
    median(some.map(({ torpor }) => torpor)) / median(some.map(({ direct }) => direct));
  const pick = () => pairs[Math.floor(random() * pairs.length)] as Pair;
  const ratios = Array.from({ length: RESAMPLES }, () => ratioOf(pairs.map(pick))).toSorted((a, b) => a - b);
  const boundAt = (share: number) =>
    ratios[Math.min(ratios.length - 1, Math.floor(ratios.length * share))] ?? Number.NaN;
  return {
    pairs: pairs.length,
    directMs: median(pairs.map(({ direct }) => direct)),
    torporMs: median(pairs.map(({ torpor }) => torpor)),
    ratio: ratioOf(pairs),
    interval: [boundAt(0.025), boundAt(0.975)],
  };
}
