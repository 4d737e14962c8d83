import type { Case } from './case.js';
import { VIOLATIONS, type ViolationKind } from './checks/violation.js';

type Judged = Pick<Case, 'has'>;

/** The line that a run ends with. */
export function lastLine(cases: readonly Judged[]): string {
  const counts = VIOLATIONS.map((kind) => `${kind} ${countOf(cases, kind)}`);
  return `${counts.join(', ')} of ${cases.length} cases`;
}

function countOf(cases: readonly Judged[], kind: ViolationKind): number {
  return cases.filter((one) => one.has(kind)).length;
}

const HEAD = ['operation', 'process', 'cases', ...VIOLATIONS, 'turned back', 'recovery s (median)', 'max'];

/** A row per operation and process, and one for each process. */
export function tableOf(cases: readonly Case[]): string {
  const groups = new Map<string, Case[]>();
  for (const one of cases) {
    const key = `${one.plan.operation}\0${one.plan.process}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  const rows = [...groups].map(([key, group]) => rowOf(key.split('\0'), group));
  const processes = [...new Set(cases.map(({ plan }) => plan.process))];
  const sums = processes.map((process) =>
    rowOf(
      ['all', process],
      cases.filter(({ plan }) => plan.process === process),
    ),
  );
  return aligned([HEAD, ...rows, ...sums]);
}

function rowOf(names: readonly string[], group: readonly Case[]): string[] {
  const recoveries = group.map(({ recoveryMs }) => recoveryMs).filter((ms) => ms !== undefined);
  return [
    ...names,
    String(group.length),
    ...VIOLATIONS.map((kind) => String(countOf(group, kind))),
    String(group.filter(({ turnedBack }) => turnedBack).length),
    seconds(median(recoveries)),
    seconds(recoveries.length === 0 ? undefined : Math.max(...recoveries)),
  ];
}

export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.ceil((sorted.length - 1) / 2)]];
  return low === undefined || high === undefined ? undefined : (low + high) / 2;
}

function seconds(ms: number | undefined): string {
  return ms === undefined ? '-' : (ms / 1000).toFixed(1);
}

export function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
