import { type Command, InvalidArgumentError } from 'commander';
import { readConfig } from '../../cli/config.js';
import { StepReport } from '../../cli/step-report.js';
import { formatTable } from '../../cli/tables.js';
import { benchHost } from './host.bench.js';
import { type HostRow, hostRows, meets } from './host-rows.js';
import { benchHostInLab } from './in-lab.js';

function wholeFrom(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (Number.isInteger(number) && number >= least) return number;
    throw new InvalidArgumentError(`must be a whole number of at least ${least}`);
  };
}

interface Options {
  rounds: number;
  memory: number;
  json: boolean;
  lab: boolean;
}

export function addHost(program: Command): void {
  program
    .command('host')
    .description(
      'every call of the production drivers (Cloud Hypervisor, dm-snapshot, netns) beside the tools that they call, and what a snapshot weighs',
    )
    .option('--rounds <n>', 'lives of a VM on each side', wholeFrom(1), 5)
    .option('--memory <mib>', "of the VM's memory", wholeFrom(64), 256)
    .option('--lab', 'in the emulated stand-in for a production host (test/lab) rather than on this machine', false)
    .option('--json', 'one object per row on standard output, everything else on standard error', false)
    .action(async ({ rounds, memory, json, lab }: Options) => {
      if (lab) {
        process.exitCode = await benchHostInLab([
          '--rounds',
          String(rounds),
          '--memory',
          String(memory),
          ...(json ? ['--json'] : []),
        ]);
        return;
      }
      const { cacheDir } = readConfig();
      const options = { cacheDir, rounds, shape: { vcpus: 1, memoryMb: memory } };
      const rows = hostRows(await benchHost(options, new StepReport(false, process.stderr)));
      const text = json ? rows.map((row) => JSON.stringify(asObject(row))).join('\n') : asTable(rows);
      process.stdout.write(`${text}\n`);
    });
}

function asTable(rows: readonly HostRow[]): string {
  const short = (value: number) => value.toFixed(value < 100 ? 1 : 0);
  return formatTable(
    ['call', 'unit', 'ours', 'against', 'theirs', 'ratio', '95 % interval', 'bar', 'met'],
    rows.map((row) => [
      row.name,
      row.unit,
      short(row.ours),
      row.against,
      short(row.baseline),
      row.ratio.toFixed(2),
      row.interval === undefined ? '' : `${row.interval[0].toFixed(2)} to ${row.interval[1].toFixed(2)}`,
      row.bar === undefined ? '' : `≤ ${row.bar}`,
      row.bar === undefined ? '' : meets(row) ? 'yes' : 'NO',
    ]),
  );
}

function asObject({ interval, bar, ...row }: HostRow): object {
  return {
    ...row,
    ratio_low: interval?.[0] ?? null,
    ratio_high: interval?.[1] ?? null,
    bar: bar ?? null,
    met: meets({ ...row, interval, bar }),
  };
}
