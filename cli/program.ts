import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { addDemoCommand } from './commands/demo.js';
import { addDoctorCommand } from './commands/doctor.js';
import { addHostCommands } from './commands/host.js';
import { addInstallCommand } from './commands/install.js';
import { addOperationCommands } from './commands/operation.js';
import { addOpsCommands } from './commands/ops.js';
import { addSandboxCommands } from './commands/sandbox.js';
import { addSetupCommand } from './commands/setup.js';
import { addTemplateCommands } from './commands/template.js';
import { addUpCommand } from './commands/up.js';
import type { CliConfig } from './config.js';
import { PROJECT_ROOT } from './project-root.js';

/** All commands. Whatever takes long to load is loaded by the command that needs it, so that `--help` is quick. */
export function createProgram(config: CliConfig): Command {
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  const program = new Command('torpor')
    .description('Self-hosted Linux microVMs with a durable lifecycle: create, use, pause to disk, resume, destroy.')
    .version(version)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride();
  program.addHelpText(
    'after',
    '\nFirst steps: `sudo torpor demo` shows what it does, `sudo torpor up` starts a platform, and\n`torpor sandbox create` makes a sandbox. `torpor <command> --help` has examples and exit codes.',
  );
  addSetupCommand(program, config);
  addDoctorCommand(program, config);
  addUpCommand(program, config);
  addInstallCommand(program, config);
  addDemoCommand(program, config);
  addSandboxCommands(program, config);
  addOperationCommands(program, config);
  addOpsCommands(program, config);
  addTemplateCommands(program, config);
  addHostCommands(program, config);
  return program;
}
