import type { Operation } from '../rest-types.js';

/** Steps of operations that can only go forward: they are tried until they succeed. */
const FORWARD_STEPS: ReadonlySet<string> = new Set(['killVm', 'detachDisk', 'releaseNetwork', 'deleteFiles']);

/** Rows about the steps that an open operation waits for, with what an operator can do about each. */
export function pendingRows({ sandbox_id, host_id, progress }: Operation): string[][] {
  if (progress === null) return [];
  const { pending, undoing } = progress;
  return pending.flatMap(({ activity, attempt, last_failure: failure }) => {
    const tried = attempt === 1 ? 'first attempt' : `attempt ${attempt}`;
    const row = ['pending', `${activity}, ${tried}${failure === null ? '' : `: ${failure}`}`];
    if (attempt === 1 && failure === null) return [row];
    return [row, ['what to do', advice(activity, undoing, host_id, sandbox_id)]];
  });
}

function advice(step: string, undoing: boolean, hostId: string | null, sandboxId: string): string {
  const mend = `mend what the failure names${hostId === null ? '' : ` on host ${hostId}`}`;
  const now = `to try at once: temporal activity reset --workflow-id sandbox/${sandboxId} --activity-id ${step}`;
  if (undoing) return `${mend}; what it did is undone by itself within a minute; ${now}`;
  if (FORWARD_STEPS.has(step)) return `${mend}; it cannot turn back and goes on by itself within a minute; ${now}`;
  return 'nothing yet: it is tried again by itself, and turned back if that does not help';
}
