import { activityInfo } from '@temporalio/activity';
import { DomainError } from '../../workflows/contract/errors.js';
import type { ControlActivities, Deadline, ExpiryOutcome } from './contract.js';
import { derivedId } from './derived-id.js';
import { heartbeating } from './heartbeating.js';
import type { ControlStore, ControlTemporal, OperationRecord } from './ports.js';

type TtlActivities = Pick<ControlActivities, 'armTtl' | 'readDeadline' | 'expire' | 'noteExpiryFailure'>;

export function createTtlActivities(store: ControlStore, temporal: ControlTemporal): TtlActivities {
  return {
    async armTtl({ sandboxId }) {
      const sandbox = await store.findSandbox(sandboxId);
      if (sandbox?.state !== 'running' || sandbox.expiresAt === null) return;
      await temporal.armKeeper(sandbox);
    },

    async readDeadline({ sandboxId }): Promise<Deadline> {
      const sandbox = await store.findSandbox(sandboxId);
      if (!sandbox) return { state: null, expiresAt: null, onTimeout: 'pause' };
      const { state, expiresAt, onTimeout } = sandbox;
      return { state, expiresAt: expiresAt?.getTime() ?? null, onTimeout };
    },

    async expire({ sandboxId, onTimeout }): Promise<ExpiryOutcome> {
      const { workflowExecution, activityId } = activityInfo();
      const opId = expiryOpId(sandboxId, workflowExecution?.runId ?? '', activityId);
      return heartbeating(opId, () => expire(store, temporal, { sandboxId, onTimeout, opId }));
    },

    noteExpiryFailure: ({ sandboxId, message, retryAt }) =>
      store.transaction(async (tx) => {
        const sandbox = await tx.lockSandbox(sandboxId);
        if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
        await tx.appendEvent({
          sandboxId,
          teamId: sandbox.teamId,
          type: 'timeout.failed',
          operationId: null,
          data: { on_timeout: sandbox.onTimeout, message, retry_at: new Date(retryAt).toISOString() },
        });
      }),
  };
}

/** The same for every attempt of this activity, so that a second attempt finds the operation of the first. */
function expiryOpId(sandboxId: string, runId: string, activityId: string): string {
  return derivedId('expire', sandboxId, runId, activityId);
}

async function expire(
  store: ControlStore,
  temporal: ControlTemporal,
  { sandboxId, onTimeout, opId }: { sandboxId: string; onTimeout: 'pause' | 'destroy'; opId: string },
): Promise<ExpiryOutcome> {
  // An earlier attempt of this activity may have started it and died waiting.
  const earlier = await store.findOperation(opId);
  if (earlier && earlier.state !== 'running') return outcomeOf(earlier);
  const sandbox = await store.findSandbox(sandboxId);
  if (!sandbox) return { done: true, message: `sandbox ${sandboxId} is gone` };
  try {
    const { failure } = await temporal.runOperation({
      kind: onTimeout,
      opId,
      sandboxId,
      teamId: sandbox.teamId,
      reason: 'timeout',
    });
    if (failure) return { done: false, message: `${failure.step}: ${failure.message}` };
    return { done: true, message: `${onTimeout} succeeded` };
  } catch (error) {
    // Somebody else is at work on the sandbox, or it is no longer what the deadline was for.
    if (error instanceof DomainError) return { done: false, message: error.message };
    throw error;
  }
}

function outcomeOf(operation: OperationRecord): ExpiryOutcome {
  if (operation.state === 'succeeded') return { done: true, message: `${operation.kind} succeeded` };
  const why = operation.failure ? `${operation.failure.step}: ${operation.failure.message}` : operation.state;
  return { done: false, message: why };
}
