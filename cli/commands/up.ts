import type { Command } from 'commander';
import type { CliConfig } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { addHelpPage } from '../help-page.js';
import { positiveInteger } from '../option-values.js';
import type { UpOptions } from './up-run.js';

export function addUpCommand(program: Command, config: CliConfig): void {
  const command = program
    .command('up')
    .summary('run a whole platform on this machine')
    .description(
      'Runs a whole platform on this machine, in the foreground, until Ctrl-C or SIGTERM: Postgres, Temporal with its UI, control worker, API and host worker.',
    )
    .option('--home <dir>', 'where its data is kept', config.home)
    .option('--port <n>', 'port of the API', positiveInteger, 8080)
    .option('--temporal-port <n>', 'port of Temporal', positiveInteger, 7233)
    .option('--ui-port <n>', "port of Temporal's UI", positiveInteger, 8233)
    .option('--postgres-port <n>', 'port of Postgres', positiveInteger, 54320)
    .option('--ephemeral-ports', 'take free ports and print them', false)
    .option('--stop-vms', 'pause every running sandbox to disk before stopping', false)
    .option('--no-warm', 'do not build the warm snapshot of `minimal`; create then boots cold')
    .option('--json', 'one JSON object per step; the one with "ready": true has the addresses', false)
    .action(async (options: UpOptions) => {
      const { runUp } = await import('./up-run.js');
      await runUp(config, options);
    });
  addHelpPage(command, {
    notes: [
      'Does what `torpor setup` does first. Each process is waited for by its own ready message, printed with its time, restarted with growing pauses (1 to 30 s) when it ends, and stopped in reverse order at the end. When torpor itself is killed, the kernel ends them, and the next `up` makes sure of it.',
      'Virtual machines are not children of torpor: they survive a stop and a crash, and the next `up` finds them again. Use --stop-vms to pause them to disk instead.',
      'The first start prints an API key, once. It stays in credentials.json, where the other commands find it.',
    ],
    environment: [
      ['TORPOR_HOME', 'default of --home'],
      ['TORPOR_CACHE_DIR', 'what `torpor setup` made'],
      ['DATABASE_URL', 'a Postgres of your own; none is started'],
      ['TEMPORAL_ADDRESS', 'a Temporal of your own (host:port); none is started'],
      ['TEMPORAL_NAMESPACE', 'its namespace; default: default'],
      ['TORPOR_TEMPORAL_UI_URL', 'address of its UI, for links'],
      ['TORPOR_HYPERVISOR, TORPOR_DISK', 'force a driver; see `torpor doctor --help`'],
      ['TORPOR_*, LOG_LEVEL', 'other settings of the API and the host worker are handed on'],
    ],
    files: [
      ['HOME/credentials.json', 'address and first API key (mode 0600)'],
      ['HOME/secrets.json', 'password of Postgres and other secrets (mode 0600)'],
      ['HOME/postgres, HOME/temporal', 'data of the two servers'],
      ['HOME/host', 'disks and snapshots of sandboxes'],
      ['HOME/logs/*.log', 'output of each process; rotated at 10 MiB'],
      ['HOME/lock', 'who runs on this directory'],
    ],
    exit: [EXIT.ok, EXIT.failed, EXIT.usage, EXIT.unreachable, EXIT.conflict, EXIT.timeout, EXIT.interrupted],
    exitNotes: [['', '0 also after Ctrl-C or SIGTERM, once it was ready; 130 when it was stopped while starting']],
    examples: [
      ['sudo torpor up', 'the API at http://127.0.0.1:8080, the Temporal UI at http://127.0.0.1:8233'],
      ['sudo torpor up --home /srv/torpor --ephemeral-ports', 'a second platform on the same machine'],
      ['sudo DATABASE_URL=postgres://… TEMPORAL_ADDRESS=temporal:7233 torpor up', 'with servers of your own'],
    ],
  });
}
