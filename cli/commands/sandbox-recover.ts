import type { Command } from 'commander';
import type { CliConfig } from '../config.js';
import { addHelpPage, apiPage } from '../help-page.js';
import { changeSandboxes, type WaitOptions } from './sandbox-lifecycle.js';

interface RecoverOptions extends WaitOptions {
  discardMemory: boolean;
}

export function addRecoverCommand(sandbox: Command, config: CliConfig): void {
  const command = sandbox
    .command('recover')
    .summary('find out what became of a sandbox and put it where it can go on')
    .description(
      'Asks the host what is left of sandboxes that are in `error` or `missing`, and puts each where it can go on: running untouched where its machine lives, paused where its memory is safe on disk, else booted anew from its disk.',
    )
    .argument('<id...>', 'one or more ids')
    .option('--discard-memory', 'give up the saved memory of a paused sandbox and boot it from its disk', false)
    .option('--no-wait', 'return as soon as it is accepted')
    .option('--json', 'the sandbox (several: a list) as JSON', false)
    .action((ids: string[], options: RecoverOptions) =>
      changeSandboxes(
        config,
        'recover',
        (client, id) => client.recover(id, { discard_memory: options.discardMemory }),
        ids,
        options,
      ),
    );
  addHelpPage(
    command,
    apiPage({
      notes: [
        'An id may be shortened to any beginning that only one living sandbox has.',
        'A boot from the disk has the files as they were last written and nothing that was only in memory. `torpor sandbox get` and the events tell of the loss until the sandbox ends.',
        'A paused sandbox is refused without --discard-memory: what it had in memory could not be brought back. If recovering fails, its disk is kept and it can be tried again.',
        'While its host is away the sandbox stays `missing`, and is found again by itself when the host is back.',
      ],
      examples: [
        ['torpor sandbox recover ID', 'its memory is lost; boot it from its disk'],
        ['torpor sandbox recover --discard-memory ID', 'its saved memory is corrupt'],
        ['torpor sandbox ls --state error,missing', 'which may need it'],
      ],
    }),
  );
}
