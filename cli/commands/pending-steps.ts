import type { Operation } from '../rest-types.js';

/** Rows about the steps that an open operation waits for, with what an operator can do about each. */
export function pendingRows({ sandbox_id, host_id, progress }: Operation): string[][] {
  if (progress === null) return [];
  const { pending } = progress;
  return pending.flatMap(({ activity, attempt, last_failure: failure }) => {
    const tried = attempt === 1 ? 'first attempt' : `attempt ${attempt}`;
    const row = ['pending', `${activity}, ${tried}${failure === null ? '' : `: ${failure}`}`];
    if (attempt === 1 && failure === null) return [row];
    return [row, ['what to do', advice(activity, progress, host_id, sandbox_id)]];
  });
}

function advice(
  step: string,
  { undoing, committed }: NonNullable<Operation['progress']>,
  hostId: string | null,
  sandboxId: string,
): string {
  const mend = `mend what the failure names${hostId === null ? '' : ` on host ${hostId}`}`;
  const now = `to try at once: temporal activity reset --workflow-id sandbox/${sandboxId} --activity-id ${step}`;
  if (undoing) return `${mend}; what it did is undone by itself within a minute; ${now}`;
  if (committed) return `${mend}; it cannot turn back and goes on by itself within a minute; ${now}`;
  return 'nothing yet: it is tried again by itself, and turned back if that does not help';
}
