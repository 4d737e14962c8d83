/** Fails when docs/openapi.json is not what the built API says of itself, so that a change of the API is reviewed. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../support/root.js';
import { runCommand } from './run-command.js';

const DOCUMENT = join(ROOT, 'docs/openapi.json');
const argv = [process.execPath, 'dist/api/openapi.js'];

const committed = await readFile(DOCUMENT, 'utf8');
try {
  const { exitCode, output } = await runCommand(argv, { output: 'capture' });
  if (exitCode !== 0) throw new Error(`node ${argv[1]} failed:\n${output}`);
  if ((await readFile(DOCUMENT, 'utf8')) !== committed) {
    console.error('docs/openapi.json is not up to date: node dist/api/openapi.js');
    process.exitCode = 1;
  }
} finally {
  // Checking must not change what is checked.
  await writeFile(DOCUMENT, committed);
}
