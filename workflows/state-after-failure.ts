import type { Failure } from './contract/errors.js';
import { OPERATIONS, type OperationKind, type SandboxState } from './contract/states.js';
import type { UndoFailure } from './undo-stack.js';

/** How an operation ended that did not succeed. */
export interface FailedEnd {
  kind: OperationKind;
  committed: boolean;
  cancelled: boolean;
  failure: Failure;
  left: readonly UndoFailure[];
}

/**
 * Where a failed operation leaves its sandbox. `missing` wherever nobody can say what became of it but a recovery can find
 * out; `error` only where somebody must look; null where it stays what it is.
 */
export function stateAfterFailure({ kind, committed, cancelled, failure, left }: FailedEnd): SandboxState | null {
  if (kind === 'network') return afterNetwork(left);
  const { during, undone } = OPERATIONS[kind];
  // Only a destroy takes over behind a commit point, and it takes the sandbox as it is.
  if (committed) return kind === 'destroy' ? during : 'missing';
  if (kind === 'create') return undone;
  const findable = left.every(({ code }) => code === 'host_unavailable' || code === 'memory_lost');
  if (!findable) return 'error';
  if (left.length > 0) return 'missing';
  // A recovery that did not get to an answer has none: another one looks again.
  if (kind === 'recover' && (cancelled || failure.code === 'host_unavailable')) return 'missing';
  return undone;
}

/**
 * Its guest runs on, and its caller has it: an undo that failed for good is told on the operation, and another change mends
 * it. Of a host that is away nobody can say whether the guest still runs; the recovery applies the policy of the row.
 */
function afterNetwork(left: readonly UndoFailure[]): 'missing' | null {
  return left.some(({ code }) => code === 'host_unavailable') ? 'missing' : null;
}
