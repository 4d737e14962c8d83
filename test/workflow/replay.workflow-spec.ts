import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import {
  BUILD_WORKFLOW,
  HOST_WATCH_WORKFLOW,
  RECONCILE_WORKFLOW,
  TTL_WORKFLOW,
  WORKFLOW_OF,
} from '../../workflows/contract/operations.js';
import { BUNDLE_VARIABLE } from '../support/temporal.js';

const FOLDER = fileURLToPath(new URL('./histories/', import.meta.url));
const WORKFLOWS = [
  ...Object.values(WORKFLOW_OF),
  TTL_WORKFLOW,
  BUILD_WORKFLOW,
  HOST_WATCH_WORKFLOW,
  RECONCILE_WORKFLOW,
];

Runtime.install({ logger: new DefaultLogger('ERROR', () => {}), shutdownSignals: [] });

interface RecordedHistory {
  events: { workflowExecutionStartedEventAttributes?: { workflowType: { name: string } } }[];
}

function read(file: string): RecordedHistory {
  return JSON.parse(readFileSync(`${FOLDER}${file}`, 'utf8')) as RecordedHistory;
}

describe('recorded histories', () => {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith('.json'));

  it('has some of every workflow', () => {
    const recorded = files.map(
      (file) => read(file).events[0]?.workflowExecutionStartedEventAttributes?.workflowType.name,
    );
    expect(new Set(recorded)).toEqual(new Set(WORKFLOWS));
  });

  it.each(files)('%s replays on the code of today', async (file) => {
    const codePath = process.env[BUNDLE_VARIABLE] ?? '';
    await Worker.runReplayHistory({ workflowBundle: { codePath } }, read(file), `sandbox/${file}`);
  });

  it('notices a history that the code would not have made', async () => {
    const history = read('pause-ok.json');
    const renamed = JSON.parse(JSON.stringify(history).replaceAll('quiesceGuest', 'quieterGuest')) as RecordedHistory;
    const codePath = process.env[BUNDLE_VARIABLE] ?? '';
    await expect(
      Worker.runReplayHistory({ workflowBundle: { codePath } }, renamed, 'sandbox/renamed'),
    ).rejects.toThrow();
  });
});
