import { Option, type Command } from 'commander';
import type { CliConfig } from '../config.js';
import { addHelpPage, apiPage } from '../help-page.js';
import { keyValue, nonNegativeInteger, positiveInteger } from '../option-values.js';
import {
  changeSandboxes,
  createSandbox,
  type CreateOptions,
  type Verb,
  type WaitOptions,
} from './sandbox-lifecycle.js';
import { execInSandbox, type ExecOptions } from './sandbox-exec.js';
import { addNetworkOptions, DESTINATION_TERMS, NETWORK_NOTES } from './network-options.js';
import { addNetworkCommand } from './sandbox-network.js';
import { addRecoverCommand } from './sandbox-recover.js';
import {
  extendSandbox,
  listSandboxes,
  showLogs,
  showSandbox,
  type ListOptions,
  type LogOptions,
} from './sandbox-views.js';

const ID_NOTE = 'An id may be shortened to any beginning that only one living sandbox has.';

export function addSandboxCommands(program: Command, config: CliConfig): void {
  const sandbox = program
    .command('sandbox')
    .alias('sbx')
    .summary('create, use, pause, resume and destroy sandboxes')
    .description('Works with sandboxes: Linux microVMs of your own.');
  addCreate(sandbox, config);
  addLooking(sandbox, config);
  addUsing(sandbox, config);
  addChanging(sandbox, config);
  addNetworkCommand(sandbox, config);
  addRecoverCommand(sandbox, config);
}

function addCreate(sandbox: Command, config: CliConfig): void {
  const create = sandbox
    .command('create')
    .summary('create a sandbox and print its id')
    .description('Creates a sandbox, waits until it runs, and prints its id.')
    .option('--template <name>', 'what it starts from (default: "minimal")')
    .option('--vcpus <n>', "virtual processors (default: the template's)", positiveInteger)
    .option('--memory <MiB>', "memory (default: the template's)", positiveInteger)
    .option(
      '--timeout <seconds>',
      'idle time after which it is paused or destroyed; 0 = never (default: 0)',
      nonNegativeInteger,
    )
    .addOption(new Option('--on-timeout <what>', 'what happens then (default: "pause")').choices(['pause', 'destroy']))
    .addOption(
      new Option(
        '--on-memory-loss <what>',
        'what happens when its memory is lost with its host: boot from the disk, or wait in `error` (default: "reboot")',
      ).choices(['reboot', 'error']),
    )
    .option('--env <NAME=VALUE>', 'environment of everything that runs in it; repeatable', keyValue)
    .option('--metadata <NAME=VALUE>', 'labels to find it by; repeatable', keyValue)
    .option('--cold', 'boot even where a warm snapshot exists', false)
    .option('--no-wait', 'return as soon as it is accepted')
    .option('--idempotency-key <text>', 'the same key and options again give the same sandbox')
    .option('--json', 'the sandbox as JSON', false)
    .action((options: CreateOptions) => createSandbox(config, options));
  addNetworkOptions(create);
  addHelpPage(
    create,
    apiPage({
      notes: [
        'Progress goes to standard error, the id alone to standard output. An interrupted wait does not stop the creation: it is a workflow on the server.',
        ...NETWORK_NOTES,
        'Without options everything goes out that may. `torpor sandbox network` changes it later.',
      ],
      terms: DESTINATION_TERMS,
      examples: [
        ['id=$(torpor sandbox create)', 'keep the id'],
        ['torpor sandbox create --timeout 300 --on-timeout destroy --metadata job=42', 'for one job'],
        ['torpor sandbox create --on-memory-loss error', 'a reboot would do harm: let a person decide'],
        ['torpor sandbox create --no-egress --dns --allow 10.0.0.0/8:443/tcp', 'one service, and names'],
        ['torpor sandbox create --vcpus 2 --memory 1024 --no-egress --json', 'bigger, and cut off'],
      ],
    }),
  );
}

function addLooking(sandbox: Command, config: CliConfig): void {
  const ls = sandbox
    .command('ls')
    .alias('list')
    .summary('list sandboxes')
    .description('Lists sandboxes, newest first. Stopped ones are left out unless asked for.')
    .option('--state <states>', 'only these; separated by commas')
    .option('--template <name>', 'only those of this template')
    .option('--metadata <NAME=VALUE>', 'only those with this label; repeatable', keyValue)
    .option('--all', 'stopped ones too', false)
    .option('--limit <n>', 'at most so many', positiveInteger, 1000)
    .option('--json', 'as JSON', false)
    .action((options: ListOptions) => listSandboxes(config, options));
  addHelpPage(
    ls,
    apiPage({
      examples: [
        ['torpor sandbox ls --state running,paused', 'what can be used'],
        ['torpor sandbox ls --metadata job=42 --json', 'for a program'],
      ],
    }),
  );

  const get = sandbox
    .command('get')
    .summary('show one sandbox')
    .description(
      'Shows one sandbox: its state, whether its memory was ever lost, and when something failed, what and what to do.',
    )
    .argument('<id>', 'its id')
    .option('--json', 'as JSON, with the token of the guest agent', false)
    .action((id: string, options: { json: boolean }) => showSandbox(config, id, options.json));
  addHelpPage(get, apiPage({ notes: [ID_NOTE], examples: [['torpor sandbox get 4k2', 'by the beginning of its id']] }));

  const logs = sandbox
    .command('logs')
    .summary('what happened to a sandbox, or its serial console')
    .description('Shows the events of a sandbox, oldest first, or what its kernel and boot printed.')
    .argument('<id>', 'its id')
    .option('--console', 'the serial console instead (the last 64 KiB)', false)
    .option('-f, --follow', 'go on as more comes, until it is stopped', false)
    .option('--json', 'one event per line as JSON', false)
    .action((id: string, options: LogOptions) => showLogs(config, id, options));
  addHelpPage(
    logs,
    apiPage({
      notes: [ID_NOTE],
      examples: [
        ['torpor sandbox logs -f ID', 'follow its life'],
        ['torpor sandbox logs --console ID', 'why it does not boot'],
      ],
    }),
  );
}

function addUsing(sandbox: Command, config: CliConfig): void {
  const exec = sandbox
    .command('exec')
    .summary('run a command in a sandbox')
    .description('Runs a command in a running sandbox, shows its output, and ends with its exit code.')
    .argument('<id>', 'its id')
    .argument('<command...>', 'one word is a line for /bin/sh; several are a program and its arguments')
    .option('--timeout <seconds>', 'it is killed after so long', positiveInteger, 30)
    .option('--cwd <dir>', 'directory to run in')
    .option('--env <NAME=VALUE>', 'environment; repeatable', keyValue)
    .option('--user <name>', 'user to run as')
    .option('-i, --stdin', 'send standard input', false)
    .option('--json', 'exit code, output and duration as JSON', false)
    .passThroughOptions()
    .action((id: string, words: string[], options: ExecOptions) =>
      execInSandbox(config, id, withoutSeparator(words), options),
    );
  addHelpPage(
    exec,
    apiPage({
      notes: [ID_NOTE, 'Options of torpor come before the id; everything after it belongs to the command.'],
      exit: [],
      exitNotes: [
        ['n', 'exit code of the command'],
        ['124', 'it was killed after --timeout'],
        ['125', 'torpor failed: no connection, no such sandbox, it does not run; 2 for wrong usage'],
        ['128', 'a signal ended it'],
      ],
      examples: [
        ["torpor sandbox exec ID 'uname -a; df -h'", 'a line for the shell'],
        ['torpor sandbox exec ID -- python3 -c "print(6*7)"', 'a program and its arguments'],
        ['torpor sandbox exec -i --user root ID tar xf - < files.tar', 'with input'],
      ],
    }),
  );

  const shell = sandbox
    .command('shell')
    .summary('a terminal in a sandbox')
    .description('Opens a terminal in a running sandbox. Ends with the exit code of the shell.')
    .argument('<id>', 'its id')
    .argument('[command...]', 'program to run (default: /bin/bash -l)')
    .option('--user <name>', 'user to be')
    .option('--cwd <dir>', 'directory to start in')
    .option('--env <NAME=VALUE>', 'environment; repeatable', keyValue)
    .passThroughOptions()
    .action(
      async (id: string, words: string[], options: { user?: string; cwd?: string; env?: Record<string, string> }) => {
        const { openShell } = await import('./sandbox-shell.js');
        await openShell(config, id, withoutSeparator(words), options);
      },
    );
  addHelpPage(
    shell,
    apiPage({
      notes: [
        ID_NOTE,
        'Every key goes to the sandbox, Ctrl-C included; `exit` or Ctrl-D ends it. A broken connection does not end what runs in the terminal.',
      ],
      exitNotes: [['n', 'otherwise the exit code of the shell']],
      examples: [
        ['torpor sandbox shell ID', 'look around'],
        ['torpor sandbox shell --user root ID', 'as root'],
      ],
    }),
  );

  const extend = sandbox
    .command('extend')
    .summary('set when a sandbox times out')
    .description('Sets the timeout of a sandbox anew: it ends so many idle seconds from now.')
    .argument('<id>', 'its id')
    .argument('<seconds>', 'from now; 0 = never', nonNegativeInteger)
    .addOption(new Option('--on-timeout <what>', 'what happens then').choices(['pause', 'destroy']))
    .option('--json', 'the sandbox as JSON', false)
    .action((id: string, seconds: number, options: { onTimeout?: string; json: boolean }) =>
      extendSandbox(config, id, seconds, options),
    );
  addHelpPage(
    extend,
    apiPage({
      notes: [ID_NOTE],
      examples: [
        ['torpor sandbox extend ID 3600', 'an hour more'],
        ['torpor sandbox extend ID 0', 'for ever'],
      ],
    }),
  );
}

/** `ID -- program …`: the separator may stand between them, and is not the program. */
function withoutSeparator(words: string[]): string[] {
  return words[0] === '--' ? words.slice(1) : words;
}

const CHANGES: readonly { name: string; verb: Verb; summary: string; description: string; example: string }[] = [
  {
    name: 'pause',
    verb: 'pause',
    summary: 'write a sandbox to disk and free its memory',
    description:
      'Pauses running sandboxes: memory and disk are on stable storage before the machine is ended. If that fails, the sandbox keeps running.',
    example: 'torpor sandbox pause ID',
  },
  {
    name: 'resume',
    verb: 'resume',
    summary: 'go on where a paused sandbox stood',
    description:
      'Resumes paused sandboxes with their memory. If that fails, the paused state is untouched and can be tried again.',
    example: 'torpor sandbox resume ID && torpor sandbox exec ID uptime',
  },
  {
    name: 'rm',
    verb: 'destroy',
    summary: 'destroy sandboxes',
    description: 'Destroys sandboxes in any state, with everything that was theirs. What is under way is undone first.',
    example: 'torpor sandbox rm $(torpor sandbox ls --json | jq -r ".[].id")',
  },
];

function addChanging(sandbox: Command, config: CliConfig): void {
  for (const { name, verb, summary, description, example } of CHANGES) {
    const command = sandbox
      .command(name)
      .summary(summary)
      .description(description)
      .argument('<id...>', 'one or more ids')
      .option('--no-wait', 'return as soon as it is accepted')
      .option('--json', 'the sandbox (several: a list) as JSON', false)
      .action((ids: string[], options: WaitOptions) =>
        changeSandboxes(config, verb, (client, id) => client[verb](id), ids, options),
      );
    addHelpPage(command, apiPage({ notes: [ID_NOTE], examples: [[example, summary]] }));
  }
}
