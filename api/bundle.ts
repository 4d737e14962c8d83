import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode } from '@temporalio/worker';

/**
 * Compiles all workflows into one file, so that a worker starts without a compiler
 * and a forbidden import fails the build instead of a deployment.
 */
const entry = fileURLToPath(new URL('../workflows/index.js', import.meta.url));
const target = fileURLToPath(new URL('../workflow-bundle.js', import.meta.url));

const { code } = await bundleWorkflowCode({ workflowsPath: entry });
await writeFile(target, code);
process.stdout.write(`workflow bundle: ${(code.length / 1024).toFixed(0)} KiB\n`);
