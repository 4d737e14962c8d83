import { Command, InvalidArgumentError } from 'commander';
import { StepReport } from '../cli/step-report.js';
import { formatTable } from '../cli/tables.js';
import { addDurability } from './durability/durability-command.js';
import { addHost } from './host/host-command.js';
import { benchLifecycle, type LifecycleRow } from './lifecycle.bench.js';

const LEAST_PAIRS = 1;

function pairsOf(value: string): number {
  const pairs = Number(value);
  if (Number.isInteger(pairs) && pairs >= LEAST_PAIRS) return pairs;
  throw new InvalidArgumentError(`must be a whole number of at least ${LEAST_PAIRS}`);
}

function asTable(rows: LifecycleRow[]): string {
  const ms = (value: number) => value.toFixed(value < 100 ? 1 : 0);
  return formatTable(
    ['operation', 'direct ms', 'torpor ms', 'excess ms', 'ratio', '95 % interval', 'events', 'bar', 'met'],
    rows.map(({ name, directMs, torporMs, ratio, interval, historyEvents, bar, met }) => [
      name,
      ms(directMs),
      ms(torporMs),
      ms(torporMs - directMs),
      ratio.toFixed(2),
      `${interval[0].toFixed(2)} to ${interval[1].toFixed(2)}`,
      historyEvents === null ? '' : String(historyEvents),
      bar,
      met ? 'yes' : 'NO',
    ]),
  );
}

function asObject({ name, pairs, directMs, torporMs, ratio, interval, historyEvents, bar, met }: LifecycleRow): object {
  return {
    ...{ name, pairs, direct_ms: directMs, torpor_ms: torporMs, excess_ms: torporMs - directMs, ratio },
    ...{ ratio_low: interval[0], ratio_high: interval[1], history_events: historyEvents, bar, met },
  };
}

const program = new Command('bench').description(
  'Figures as ratios: each operation beside the bare work in it, measured in turn.',
);
program
  .command('lifecycle')
  .description('REST, workflow and journal beside the same driver calls made directly, on real VMs')
  .option('--pairs <n>', 'pairs of measurements for each row', pairsOf, 10)
  .option('--json', 'one object per row on standard output, everything else on standard error', false)
  .action(async ({ pairs, json }: { pairs: number; json: boolean }) => {
    const rows = await benchLifecycle(pairs, new StepReport(false, process.stderr));
    const text = json ? rows.map((row) => JSON.stringify(asObject(row))).join('\n') : asTable(rows);
    process.stdout.write(`${text}\n`);
  });
addDurability(program);
addHost(program);
await program.parseAsync();
