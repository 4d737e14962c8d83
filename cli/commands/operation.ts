import { Option, type Command } from 'commander';
import pc from 'picocolors';
import { OPERATION_KINDS, OPERATION_STATES } from '../../workflows/contract/states.js';
import type { CliConfig } from '../config.js';
import { age, seconds } from '../durations.js';
import { addHelpPage, apiPage } from '../help-page.js';
import { describeProgress, waitForOperation } from '../operation-wait.js';
import { pendingRows } from './pending-steps.js';
import { positiveInteger } from '../option-values.js';
import { collect, findApi, RestClient } from '../rest-client.js';
import type { Operation } from '../rest-types.js';
import { fullSandboxId } from '../sandbox-id.js';
import { StepReport } from '../step-report.js';
import { printJson, printTable } from '../tables.js';

interface ListOptions {
  sandbox?: string;
  state?: string;
  kind?: string;
  limit: number;
  json: boolean;
}

export function addOperationCommands(program: Command, config: CliConfig): void {
  const op = program
    .command('op')
    .alias('operation')
    .summary('look at operations and repeat failed ones')
    .description('Every change of a sandbox is an operation: one workflow run, kept with how it ended.');

  const ls = op
    .command('ls')
    .alias('list')
    .summary('list operations')
    .description('Lists operations, newest first.')
    .option('--sandbox <id>', 'only those of this sandbox')
    .addOption(new Option('--state <state>', 'only those in this state').choices([...OPERATION_STATES]))
    .addOption(new Option('--kind <kind>', 'only those of this kind').choices([...OPERATION_KINDS]))
    .option('--limit <n>', 'at most so many', positiveInteger, 50)
    .option('--json', 'as JSON', false)
    .action((options: ListOptions) => listOperations(config, options));
  addHelpPage(
    ls,
    apiPage({
      examples: [
        ['torpor op ls --state failed', 'what went wrong'],
        ['torpor op ls --sandbox ID', 'the life of one sandbox'],
      ],
    }),
  );

  const get = op
    .command('get')
    .summary('show one operation')
    .description(
      'Shows one operation: where it stands and what holds it up, or how it ended and why, and what to do, with a link to its run in the Temporal UI.',
    )
    .argument('<id>', 'its id')
    .option('--json', 'as JSON', false)
    .action((id: string, options: { json: boolean }) => showOperation(config, id, options.json));
  addHelpPage(
    get,
    apiPage({ examples: [['torpor op get ID', 'what it waits for, how often it was tried, and what to do']] }),
  );

  const retry = op
    .command('retry')
    .summary('repeat a failed operation')
    .description('Repeats a failed or cancelled operation as a new one, if the state of its sandbox allows it now.')
    .argument('<id>', 'id of the failed one')
    .option('--no-wait', 'return as soon as it is accepted')
    .option('--json', 'the new operation as JSON', false)
    .action((id: string, options: { wait: boolean; json: boolean }) => retryOperation(config, id, options));
  addHelpPage(retry, apiPage({ examples: [['torpor op retry ID', 'try it again and wait']] }));
}

async function listOperations(config: CliConfig, { sandbox, state, kind, limit, json }: ListOptions): Promise<void> {
  const client = new RestClient(findApi(config));
  const filters = { state, kind, sandbox_id: sandbox === undefined ? undefined : await fullSandboxId(client, sandbox) };
  const operations = await collect(limit, (query) => client.operations({ ...filters, ...query }));
  if (json) return printJson(operations);
  printTable(
    ['id', 'kind', 'sandbox', 'state', 'started', 'took', 'step', 'why'],
    operations.map((one) => [
      one.id,
      one.kind,
      one.sandbox_id,
      coloured(one),
      `${age(one.started_at)} ago`,
      took(one),
      one.step ?? '',
      one.failure?.message ?? '',
    ]),
  );
}

async function showOperation(config: CliConfig, id: string, json: boolean): Promise<void> {
  const operation = await new RestClient(findApi(config)).operation(id);
  if (json) return printJson(operation);
  const { failure } = operation;
  printTable(
    [],
    [
      ['id', operation.id],
      ['kind', operation.kind],
      ['sandbox', operation.sandbox_id],
      ['state', coloured(operation)],
      ['step', operation.state === 'running' ? describeProgress(operation) : (operation.step ?? '')],
      ['host', operation.host_id ?? ''],
      ...(failure === null ? [] : [['failure', `${failure.step}: ${failure.message} (${failure.code})`]]),
      ...(failure?.attempts == null ? [] : [['attempts', String(failure.attempts)]]),
      ...(failure?.suggestion === undefined ? [] : [['what to do', failure.suggestion]]),
      ...(failure?.needs_attention === undefined ? [] : [['not undone', failure.needs_attention.join('; ')]]),
      ...pendingRows(operation),
      ['started', operation.started_at],
      ['took', took(operation)],
      ...(operation.retry_of === null ? [] : [['retry of', operation.retry_of]]),
      ['run id', operation.run_id],
      ['in the UI', operation.temporal_url ?? ''],
    ],
  );
}

async function retryOperation(config: CliConfig, id: string, options: { wait: boolean; json: boolean }): Promise<void> {
  const client = new RestClient(findApi(config));
  let operation = await client.retryOperation(id);
  if (options.wait) {
    const report = new StepReport(false, process.stderr);
    const { id: newId, kind, sandbox_id } = operation;
    operation = await report.step(`${kind} ${sandbox_id}`, (note) =>
      waitForOperation(client, newId, options.json ? () => undefined : note),
    );
  }
  if (options.json) printJson(operation);
  else process.stdout.write(`${operation.id}\n`);
}

function took({ duration_ms, started_at }: Operation): string {
  return seconds(duration_ms ?? Date.now() - Date.parse(started_at));
}

function coloured({ state }: Operation): string {
  switch (state) {
    case 'succeeded':
      return pc.green(state);
    case 'failed':
      return pc.red(state);
    case 'running':
    case 'cancelled':
      return pc.yellow(state);
  }
}
