import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode } from '@temporalio/worker';
import { readConfig } from '../../cli/config.js';
import { ensureTemporal } from '../../cli/platform/temporal-binary.js';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/search-attributes.js';

/** How the files of the workflow tier find the server and the bundle that their run shares. */
export const ADDRESS_VARIABLE = 'TORPOR_TEST_TEMPORAL_ADDRESS';
export const BUNDLE_VARIABLE = 'TORPOR_TEST_WORKFLOW_BUNDLE';

let shared: { environment: TestWorkflowEnvironment; directory: string } | undefined;

/** The settings that let a development server answer at once instead of at its next 50 ms tick. */
const QUICK = ['transfer', 'timer', 'visibility'].flatMap((queue) => [
  '--dynamic-config-value',
  `history.${queue}ProcessorMaxPollRPS=2000`,
]);

export async function startSharedTemporal(): Promise<void> {
  const { path } = await ensureTemporal(readConfig(), () => {});
  const directory = await mkdtemp(join(tmpdir(), 'torpor-workflow-tier-'));
  const { code } = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('../../workflows/index.ts', import.meta.url)),
  });
  const bundle = join(directory, 'workflow-bundle.js');
  await writeFile(bundle, code);
  const environment = await TestWorkflowEnvironment.createLocal({
    server: {
      executable: { type: 'existing-path', path },
      searchAttributes: [...SEARCH_ATTRIBUTES],
      extraArgs: QUICK,
    },
  });
  shared = { environment, directory };
  process.env[ADDRESS_VARIABLE] = environment.address;
  process.env[BUNDLE_VARIABLE] = bundle;
}

export async function stopSharedTemporal(): Promise<void> {
  if (!shared) return;
  await shared.environment.teardown();
  await rm(shared.directory, { recursive: true, force: true });
  shared = undefined;
}
