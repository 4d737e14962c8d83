#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import pc from 'picocolors';
import { toCliError } from './cli-error.js';
import { addDemoCommand } from './commands/demo.js';
import { addDoctorCommand } from './commands/doctor.js';
import { addHostCommands } from './commands/host.js';
import { addOperationCommands } from './commands/operation.js';
import { addSandboxCommands } from './commands/sandbox.js';
import { addSetupCommand } from './commands/setup.js';
import { addTemplateCommands } from './commands/template.js';
import { addUpCommand } from './commands/up.js';
import { readConfig } from './config.js';
import { EXIT } from './exit-codes.js';
import { PROJECT_ROOT } from './project-root.js';

async function main(argv: string[]): Promise<void> {
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  const config = readConfig();
  const program = new Command('torpor')
    .description('Self-hosted Linux microVMs with a durable lifecycle: create, use, pause to disk, resume, destroy.')
    .version(version)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride();
  addSetupCommand(program, config);
  addDoctorCommand(program, config);
  addUpCommand(program, config);
  addDemoCommand(program, config);
  addSandboxCommands(program, config);
  addOperationCommands(program, config);
  addTemplateCommands(program, config);
  addHostCommands(program, config);
  await program.parseAsync(argv);
}

function fail(error: unknown, json: boolean): void {
  if (error instanceof CommanderError) {
    // It has printed its message; asking for help or the version is no failure.
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    return;
  }
  const { message, code, suggestion, exitCode } = toCliError(error);
  // A command that promises other codes for its own failures has set one already.
  process.exitCode ??= exitCode;
  if (json) {
    process.stderr.write(`${JSON.stringify({ error: { code, message, ...(suggestion === undefined ? {} : { suggestion }) } })}\n`);
    return;
  }
  process.stderr.write(`${pc.red('error:')} ${message}\n`);
  if (suggestion !== undefined) process.stderr.write(`${pc.dim('try:')}   ${suggestion}\n`);
}

try {
  await main(process.argv);
} catch (error) {
  fail(error, process.argv.includes('--json'));
}
