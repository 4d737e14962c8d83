#!/usr/bin/env node
import { CommanderError } from 'commander';
import pc from 'picocolors';
import { toCliError } from './cli-error.js';
import { readConfig } from './config.js';
import { EXIT } from './exit-codes.js';
import { createProgram } from './program.js';

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
    process.stderr.write(
      `${JSON.stringify({ error: { code, message, ...(suggestion === undefined ? {} : { suggestion }) } })}\n`,
    );
    return;
  }
  process.stderr.write(`${pc.red('error:')} ${message}\n`);
  if (suggestion !== undefined) process.stderr.write(`${pc.dim('try:')}   ${suggestion}\n`);
}

/**
 * The reader of our output has gone, as `| head` does. A command that must end in order is
 * asked to; any other has nothing left to say.
 */
function stopOnBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
  if (process.listenerCount('SIGTERM') === 0) process.exit(EXIT.ok);
  if (brokenPipes++ === 0) process.kill(process.pid, 'SIGTERM');
}
let brokenPipes = 0;

for (const stream of [process.stdout, process.stderr]) stream.on('error', stopOnBrokenPipe);
try {
  await createProgram(readConfig()).parseAsync(process.argv);
} catch (error) {
  fail(error, process.argv.includes('--json'));
  // What was interrupted may still be waiting for something; everything that had to end has.
  if (process.exitCode === EXIT.interrupted) process.exit();
}
