import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { CliConfig } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { addHelpPage } from '../help-page.js';
import type { Role } from '../platform/install/installed-files.js';
import { StepReport } from '../step-report.js';

interface InstallOptions {
  role: Role;
  prefix: string;
  root: string;
  set: string[];
  dryRun: boolean;
  json: boolean;
}

export function addInstallCommand(program: Command, config: CliConfig): void {
  const role = new Option('--role <role>', 'what this machine is for').choices(['host', 'control', 'all']);
  const command = program
    .command('install')
    .summary('make this release the one that systemd runs')
    .description(
      'Installs the units of this release, what they need of the system, and a link that makes this release the current one. Upgrading and rolling back are the same command, of another release.',
    )
    .addOption(role.makeOptionMandatory())
    .option('--prefix <dir>', 'where `current` and `bin` are', '/opt/torpor')
    .option('--root <dir>', 'write below this directory and run no commands: for images of machines', '/')
    .option('--set <name=value>', 'a variable for the files in /etc/torpor; repeatable', collect, [])
    .option('--dry-run', 'show what would be done', false)
    .option('--json', 'one JSON object per step', false)
    .action((options: InstallOptions) => runInstall(config, options));
  addHelpPage(command, {
    notes: [
      'Run it from the folder that the release was unpacked to; nothing is copied. Everything may be run again: what is there is left alone, and values in /etc/torpor are kept unless --set names them.',
      'It starts and restarts nothing. `systemctl restart torpor-host-worker` takes the new release; running virtual machines belong to torpor-vms.service and go on.',
      'docs/INSTALL.md has the whole story, from a bare machine on.',
    ],
    environment: [['TORPOR_VM_USER', 'the user that virtual machines run as; default: torpor-vm']],
    files: [
      ['/etc/torpor/control-plane.env, host.env', 'variables of the units (mode 0600), with secrets made at first'],
      ['/etc/systemd/system/torpor-*', 'units'],
      ['/etc/{modules-load,sysctl,udev/rules,tmpfiles}.d/*torpor*', 'what a host needs of the kernel'],
      ['PREFIX/current', 'the release that runs'],
      ['/usr/local/bin/torpor', 'this command'],
    ],
    exit: [EXIT.ok, EXIT.failed, EXIT.usage],
    examples: [
      ['sudo dist/cli/main.js install --role host --dry-run', 'what it would do'],
      ['sudo dist/cli/main.js install --role host --set TORPOR_API_URL=http://10.0.0.5:8080', 'a host'],
      ['sudo /opt/torpor/releases/0.1.0/dist/cli/main.js install --role host', 'roll back to that release'],
    ],
  });
}

async function runInstall(config: CliConfig, options: InstallOptions): Promise<void> {
  const { parseSetting } = await import('../platform/install/environment-file.js');
  const { checkInstallable, installSteps } = await import('../platform/install/installation.js');
  const { enabledUnits } = await import('../platform/install/installed-files.js');
  const { role, prefix } = options;
  const settings = Object.fromEntries(options.set.map(parseSetting));
  const destination = { role, prefix: prefix.replace(/\/+$/, ''), root: resolve(options.root), settings };
  checkInstallable(destination);
  const report = new StepReport(options.json);
  const steps = installSteps(destination, config.vmUser);
  if (options.dryRun) {
    for (const { title, preview } of steps)
      for (const action of preview()) report.say(`${title}: ${action}`, { step: title, would: action });
    return;
  }
  for (const { title, run } of steps) await report.step(title, run, (detail) => detail);
  const units = enabledUnits(role).join(' ');
  report.say(`Installed. Look at /etc/torpor, then: systemctl restart ${units.replace('torpor-vms.service ', '')}`, {
    installed: true,
    role,
    units: enabledUnits(role),
  });
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}
