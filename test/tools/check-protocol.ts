/** Fails when the code generated from proto/ is not what `npm run generate` would write. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../support/root.js';
import { compareTrees } from './compare-trees.js';
import { runCommand } from './run-command.js';

const GENERATED = ['proto/gen', 'guest/envd/gen'];

async function generateInto(scratch: string): Promise<void> {
  // buf.gen.yaml names its output relative to proto/, so a folder of that name stands in for it.
  const output = join(scratch, 'proto');
  await mkdir(output);
  const argv = ['buf', 'generate', '--output', output];
  const result = await runCommand(argv, { output: 'capture', cwd: join(ROOT, 'proto') });
  if (result.exitCode !== 0) throw new Error(`${argv.join(' ')} failed:\n${result.output}`);
}

const scratch = await mkdtemp(join(tmpdir(), 'torpor-generated-'));
try {
  await generateInto(scratch);
  for (const folder of GENERATED) {
    for (const difference of await compareTrees(join(ROOT, folder), join(scratch, folder))) {
      console.error(`${folder}/${difference}`);
      process.exitCode = 1;
    }
  }
  if (process.exitCode === 1) console.error('generated code is not up to date: npm run generate');
} finally {
  await rm(scratch, { recursive: true });
}
