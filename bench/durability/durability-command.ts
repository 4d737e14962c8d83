import { InvalidArgumentError, Option, type Command } from 'commander';
import { StepReport } from '../../cli/step-report.js';
import { benchDurability, CONTESTANTS, type DurabilityOptions } from './durability.bench.js';
import { durabilityObject, durabilityTable, recoveryObject, recoveryTable } from './tables.js';

function wholeNumber(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (Number.isInteger(number) && number >= least) return number;
    throw new InvalidArgumentError(`must be a whole number of at least ${least}`);
  };
}

export function addDurability(program: Command): void {
  program
    .command('durability')
    .description('lost, duplicated, stuck and leaked under kills, beside toy orchestrators on simulated machines')
    .option('--sandboxes <n>', 'lives on each orchestrator', wholeNumber(1), 60)
    .option('--kills <n>', 'of the process on the machine, during these lives', wholeNumber(0), 20)
    .option(
      '--recoveries <n>',
      'kills of each process for the recovery times, four operations each; 0 = no such table',
      wholeNumber(0),
      2,
    )
    .addOption(
      new Option('--contestants <names...>', 'which orchestrators').choices(CONTESTANTS).default([...CONTESTANTS]),
    )
    .option('--seed <n>', 'for the instants of the kills', wholeNumber(0), 1)
    .option('--json', 'one object per row on standard output, everything else on standard error', false)
    .action(async ({ json, ...options }: DurabilityOptions & { json: boolean }) => {
      const { rows, recovery, left } = await benchDurability(options, new StepReport(false, process.stderr));
      const text = json
        ? [...rows.map(durabilityObject), ...recovery.map(recoveryObject)].map((row) => JSON.stringify(row)).join('\n')
        : [
            durabilityTable(rows),
            ...(recovery.length > 0 ? [recoveryTable(recovery)] : []),
            `seed ${options.seed}`,
          ].join('\n\n');
      process.stdout.write(`${text}\n`);
      if (left.length === 0) return;
      process.stderr.write(`the bench left on the machine:\n${left.map((line) => `  ${line}\n`).join('')}`);
      process.exitCode = 1;
    });
}
