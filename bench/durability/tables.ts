import { formatTable } from '../../cli/tables.js';
import type { DurabilityRow } from './durability-row.js';
import { VERBS, type Quantiles } from './latency.js';
import { total, type Things } from './machine-truth.js';
import type { RecoveryRow } from './recovery.bench.js';

export function durabilityTable(rows: readonly DurabilityRow[]): string {
  return formatTable(
    [
      ...['orchestrator', 'sandboxes', 'kills', 'kept', 'lost', 'duplicated', 'stuck', 'leaked', 'refused'],
      ...VERBS.map((verb) => `${verb} p50/p95 ms`),
    ],
    rows.map((row) => [
      ...[row.orchestrator, String(row.sandboxes), String(row.kills), String(row.kept), String(row.lost.length)],
      ...[
        String(row.duplicated.length),
        String(row.stuck.length),
        String(total(row.leaked)),
        String(row.refused.length),
      ],
      ...VERBS.map((verb) => both(row.latency[verb])),
    ]),
  );
}

export function recoveryTable(rows: readonly RecoveryRow[]): string {
  return formatTable(
    ['killed', 'kills', 'operations', 'failed', 'recovered after s (median)', 'longest', 'bar', 'met'],
    rows.map(({ process, kills, seconds, failed, median, longest, bar, met }) => [
      ...[
        process,
        String(kills),
        String(seconds.length + failed.length),
        String(failed.length),
        median.toFixed(1),
        longest.toFixed(1),
      ],
      ...[`≤ ${bar}`, met ? 'yes' : 'NO'],
    ]),
  );
}

export function durabilityObject(row: DurabilityRow): object {
  const { orchestrator, sandboxes, kills, kept, lost, duplicated, stuck, leaked, refused, seconds, latency } = row;
  return {
    ...{ table: 'durability', orchestrator, sandboxes, kills, kept, lost, duplicated, stuck },
    ...{ leaked: { total: total(leaked), ...leaked }, refused, seconds },
    ...Object.fromEntries(
      VERBS.flatMap((verb) => [
        [`${verb}_p50_ms`, latency[verb].p50],
        [`${verb}_p95_ms`, latency[verb].p95],
      ]),
    ),
  };
}

export function recoveryObject({ process, kills, seconds, failed, median, longest, bar, met }: RecoveryRow): object {
  return {
    ...{ table: 'recovery', killed: process, kills, seconds, failed, median_seconds: median, longest_seconds: longest },
    ...{ bar_seconds: bar, met },
  };
}

/** A line for everything that went wrong, and what the leaks are. */
export function explanation(row: Omit<DurabilityRow, 'latency'>): string {
  const { orchestrator, lost, duplicated, stuck, leaked, refused } = row;
  const lines = [
    ...lost.map((why) => `lost ${why}`),
    ...duplicated.map((why) => `duplicated ${why}`),
    ...stuck.map((why) => `stuck ${why}`),
    ...refused.map((why) => `refused ${why}`),
    ...(total(leaked) === 0 ? [] : [`leaked ${kindsOf(leaked)}`]),
  ];
  return lines.map((line) => `  ${orchestrator}: ${line}\n`).join('');
}

function kindsOf({ vmms, namespaces, overlays, memories }: Things): string {
  return `${vmms} VMMs, ${namespaces} namespaces, ${overlays} disks, ${memories} saved memories`;
}

function both({ p50, p95 }: Quantiles): string {
  return `${p50.toFixed(0)} / ${p95.toFixed(0)}`;
}
