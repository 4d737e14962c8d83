import type { OperationKind } from '../../workflows/contract/states.js';
import type { SandboxEntity } from './sandbox.entity.js';

/** What can be done with a sandbox that is not what it should be; null when nothing needs to be done. */
export function nextSteps(
  { id, state, hostId, failure, startedAt }: Pick<SandboxEntity, 'id' | 'state' | 'hostId' | 'failure' | 'startedAt'>,
  working: OperationKind | undefined,
): string | null {
  const giveUp = `or give it up: torpor sandbox rm ${id}`;
  if (state === 'error') {
    // Its create failed and took down what it had set up.
    if (startedAt === null) return `create another one; remove this one: torpor sandbox rm ${id}`;
    const booted = `boot it from its disk: torpor sandbox recover ${id}`;
    return failure === null || failure.code === 'memory_lost'
      ? `${booted}; ${giveUp}`
      : `${failure.suggestion}; then ${booted}; ${giveUp}`;
  }
  if (state !== 'missing') return null;
  if (working === 'recover') return 'wait: a recovery finds out what became of it';
  return `nothing is deleted: it is found again when host ${hostId} is back (torpor host ls); ${giveUp}`;
}
