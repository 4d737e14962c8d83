import { setTimeout as delay } from 'node:timers/promises';
import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';
import type { RestClient } from './rest-client.js';
import type { Build, Operation, RestFailure } from './rest-types.js';

/** The API has no event for it yet; short at first, because most operations take about a second. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;

/** Follows an operation to its end, telling its step; a failed one is an error that says what failed. */
export async function waitForOperation(
  client: RestClient,
  id: string,
  note: (text: string) => void,
): Promise<Operation> {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.3, LONGEST_PAUSE_MS)) {
    const operation = await client.operation(id);
    if (operation.state === 'succeeded') return operation;
    if (operation.state !== 'running') throw failedOperation(operation);
    note(describeProgress(operation));
    await delay(pause);
  }
}

export async function waitForBuild(
  client: RestClient,
  id: string,
  onPoll: (build: Build) => Promise<void> | void,
): Promise<Build> {
  for (;;) {
    const build = await client.buildStatus(id);
    await onPoll(build);
    if (build.state === 'ready') return build;
    if (build.state !== 'running')
      throw failure(`build ${id} of ${build.template}`, build.state, build.failure, build.temporal_url);
    await delay(LONGEST_PAUSE_MS);
  }
}

/** `startVm`, `undoing: releaseNetwork`, `startVm (attempt 3: no space left)`. */
export function describeProgress({ progress, step, kind }: Operation): string {
  if (progress === null) return step ?? kind;
  const retried = progress.pending.filter(({ attempt }) => attempt > 1);
  const tries = retried.map(
    ({ activity, attempt, last_failure }) =>
      `${activity} attempt ${attempt}${last_failure === null ? '' : `: ${last_failure}`}`,
  );
  const stage = `${progress.undoing ? 'undoing: ' : ''}${progress.stage}`;
  return tries.length === 0 ? stage : `${stage} (${tries.join('; ')})`;
}

export function describeBuild({ host_id, step, steps }: Build): string {
  if (host_id === null) return 'waiting for a host';
  return steps === 0 ? 'booting, then saving memory and disk' : `${step} of ${steps} set-up commands done`;
}

function failedOperation({ id, kind, sandbox_id, state, failure: why, temporal_url }: Operation): CliError {
  return failure(`${kind} of sandbox ${sandbox_id} (operation ${id})`, state, why, temporal_url);
}

function failure(what: string, state: string, why: RestFailure | null, url: string | null): CliError {
  const reason = why === null ? '' : ` at ${why.step}: ${why.message}`;
  const link = url === null ? '' : `\n  ${url}`;
  return new CliError(`${what} ${state === 'cancelled' ? 'was cancelled' : 'failed'}${reason}${link}`, {
    code: why?.code ?? state,
    suggestion: why?.suggestion,
    exitCode: why?.code === 'timeout' ? EXIT.timeout : EXIT.failed,
  });
}
