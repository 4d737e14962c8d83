import type { Command } from 'commander';
import type { CliConfig } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { addHelpPage } from '../help-page.js';

export function addDemoCommand(program: Command, config: CliConfig): void {
  const command = program
    .command('demo')
    .summary('show the main job, and check every claim about it')
    .description(
      'Creates a sandbox, uses it, pauses it to disk, resumes it and destroys it, and checks on the machine itself what is claimed about each step.',
    )
    .option('--own', 'bring up a platform of its own even where one runs', false)
    .option('--json', 'one JSON object per step and claim', false)
    .action(async (options: { own: boolean; json: boolean }) => {
      const { runDemo } = await import('../demo/run-demo.js');
      await runDemo(config, options);
    });
  addHelpPage(command, {
    notes: [
      'Uses the platform that `torpor up` runs on this machine. Where none runs, it does what `torpor setup` does, brings up its own in a temporary directory with free ports, and leaves nothing of it behind.',
      'Claims are checked by looking at the machine: processes in /proc, network namespaces, links, nftables, files of the host, open workflows. That they are found while the sandbox runs is checked as well. Each step shows a link to its run in the Temporal UI; with its own platform these work until the demo ends.',
    ],
    environment: [
      ['TORPOR_HOME', 'data of the platform to use; default: /var/lib/torpor'],
      ['TORPOR_CACHE_DIR', 'what `torpor setup` made; default: /var/cache/torpor'],
    ],
    exit: [EXIT.ok, EXIT.usage, EXIT.unreachable, EXIT.conflict, EXIT.timeout, EXIT.interrupted],
    exitNotes: [['1', 'a step failed, or a claim did not hold']],
    examples: [
      ['sudo torpor demo', 'two minutes the first time, half a minute afterwards'],
      ["sudo torpor demo --json | jq 'select(.holds == false)'", 'only claims that do not hold'],
    ],
  });
}
