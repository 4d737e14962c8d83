import type { Command } from 'commander';
import { CliError } from '../cli-error.js';
import type { CliConfig } from '../config.js';
import { age } from '../durations.js';
import { EXIT } from '../exit-codes.js';
import { addHelpPage, API_EXITS, apiPage } from '../help-page.js';
import { positiveInteger } from '../option-values.js';
import { collect, findApi, RestClient } from '../rest-client.js';
import { StepReport } from '../step-report.js';
import { printJson, printTable } from '../tables.js';
import { changeOf, colouredOutcome, FINDING_TERMS, isFinished, subjectOf, summaryOf } from './findings-view.js';

interface ReconcileOptions {
  dryRun: boolean;
  removeUnknown: boolean;
  json: boolean;
}

/** `op` is about single operations; this is for whoever operates the platform. */
export function addOpsCommands(program: Command, config: CliConfig): void {
  const ops = program
    .command('ops')
    .summary('for operators: compare the platform with its hosts')
    .description(
      'Compares what the database says with what runs, and tells what was found. Needs a key of an operator.',
    );
  addReconcile(ops, config);
  addFindings(ops, config);
}

function addReconcile(ops: Command, config: CliConfig): void {
  const command = ops
    .command('reconcile')
    .summary('compare rows, workflows and hosts now, and mend what can be mended')
    .description(
      'Compares the rows of the database with the open workflows and with what each host holds, mends what it can, and prints every finding. The same happens by itself once a minute.',
    )
    .option('--dry-run', 'only say what would be done', false)
    .option('--remove-unknown', 'also remove from the hosts what this database never knew', false)
    .option('--json', 'the report as JSON', false)
    .action((options: ReconcileOptions) => reconcile(config, options));
  addHelpPage(
    command,
    apiPage({
      notes: [
        'Repairs are ordinary operations: they show in `torpor op ls` and can be watched there. An orphan is removed only after a grace period of five minutes; until then it is `waiting`.',
        'Think before --remove-unknown: after a database was restored from an older backup, what it does not know are the sandboxes made since, and this deletes them.',
      ],
      terms: FINDING_TERMS,
      exit: [...API_EXITS, EXIT.unfinished],
      exitNotes: [['', 'so 8 also when --dry-run found anything']],
      examples: [
        ['torpor ops reconcile --dry-run', 'what is not as it should be'],
        ['torpor ops reconcile', 'mend it; run it again to see that nothing is left'],
        [
          'torpor ops reconcile --json | jq -r ".findings[] | select(.kind==\\"unknown\\") | .sandbox_id"',
          'for a script',
        ],
      ],
    }),
  );
}

function addFindings(ops: Command, config: CliConfig): void {
  const command = ops
    .command('findings')
    .summary('what reconciliations have found')
    .description('Lists what reconciliations have found and what became of it, newest first.')
    .option('--limit <n>', 'at most so many', positiveInteger, 50)
    .option('--json', 'as JSON', false)
    .action((options: { limit: number; json: boolean }) => listFindings(config, options));
  addHelpPage(
    command,
    apiPage({
      terms: FINDING_TERMS,
      examples: [
        ['torpor ops findings', 'what happened lately'],
        ['torpor ops findings --limit 1000 --json', 'for a program'],
      ],
    }),
  );
}

async function reconcile(config: CliConfig, { dryRun, removeUnknown, json }: ReconcileOptions): Promise<void> {
  if (dryRun && removeUnknown) {
    throw new CliError('--dry-run changes nothing, so --remove-unknown has no effect with it', {
      suggestion: '--dry-run alone lists what is unknown; --remove-unknown alone removes it',
      exitCode: EXIT.usage,
    });
  }
  const client = new RestClient(findApi(config));
  const ask = () => client.reconcile({ dry_run: dryRun, remove_unknown: removeUnknown });
  const report = json ? await ask() : await new StepReport(false, process.stderr).step('reconcile', ask);
  process.exitCode = report.findings.every(isFinished) ? EXIT.ok : EXIT.unfinished;
  if (json) return printJson(report);
  if (report.findings.length > 0) {
    printTable(
      ['finding', 'of', 'host', 'what', 'outcome'],
      report.findings.map((one) => [
        one.kind,
        subjectOf(one),
        one.host_id ?? '',
        changeOf(one),
        colouredOutcome(one.outcome),
      ]),
    );
  }
  process.stdout.write(`${summaryOf(report)}\n`);
}

async function listFindings(config: CliConfig, { limit, json }: { limit: number; json: boolean }): Promise<void> {
  const client = new RestClient(findApi(config));
  const findings = await collect(limit, (query) => client.findings(query));
  if (json) return printJson(findings);
  printTable(
    ['when', 'finding', 'of', 'host', 'what', 'outcome'],
    findings.map((one) => [
      `${age(one.at)} ago`,
      one.kind,
      subjectOf(one),
      one.host_id ?? '',
      changeOf(one),
      colouredOutcome(one.outcome),
    ]),
  );
}
