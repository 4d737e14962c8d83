import { Injectable } from '@nestjs/common';
import {
  Client,
  WithStartWorkflowOperation,
  WorkflowContinuedAsNewError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type WorkflowExecutionDescription,
  type WorkflowStartOptions,
} from '@temporalio/client';
import { CONTROL_QUEUE, sandboxWorkflowId } from '../../workflows/contract/ids.js';
import { DomainError } from '../../workflows/contract/errors.js';
import {
  ACCEPTED_UPDATE,
  REQUEST_DESTROY_SIGNAL,
  SETTLED_UPDATE,
  WORKFLOW_OF,
  type Accepted,
  type CreateSandboxInput,
  type DestroySandboxInput,
  type OperationInput,
  type RecoverSandboxInput,
  type Settled,
  type UpdateNetworkInput,
} from '../../workflows/contract/operations.js';
import { HOST_ID, OP_ID, SANDBOX_ID, STAGE, TEAM_ID, TEMPLATE_ID } from '../../workflows/contract/search-attributes.js';
import { OPERATION_KINDS, type OperationKind } from '../../workflows/contract/states.js';
import { ControlRepository } from '../control/control.repository.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';
import { refusalOf, settledByResult } from './run-outcome.js';
import { SharedStart } from './shared-start.js';

export type OperationRequest = {
  templateId: string;
  hostId: string | null;
  /** How long to wait for the end; 0 = only until the run has taken the sandbox. */
  waitMs: number;
} & (
  | { kind: 'create'; input: CreateSandboxInput }
  | { kind: 'pause' | 'resume'; input: OperationInput }
  | { kind: 'recover'; input: RecoverSandboxInput }
  | { kind: 'network'; input: UpdateNetworkInput }
  | { kind: 'destroy'; input: DestroySandboxInput }
);

export interface StartedOperation {
  /** Of the run that was started, adopted or joined. */
  opId: string;
  /** How it ended; null while it goes on. */
  settled: Settled | null;
}

type WorkflowOf = (input: OperationInput) => Promise<void>;

/** The run of an operation that a caller waits on. */
interface Run {
  opId: string;
  kind: OperationKind;
  runId: string;
}

/** How long a control worker may take to begin; a busy one needs seconds, an absent one never does. */
const ACCEPT_LIMIT_MS = 30_000;
/** How long a settled operation may take to close. */
const CLOSE_LIMIT_MS = 15_000;
/** An open run may close between the refusal and the question which it was. */
const START_ATTEMPTS = 3;

/**
 * Starts lifecycle operations. The server is the lock: at most one run is open under a
 * sandbox's workflow id. Starting is idempotent by `opId`: a second start finds the run
 * of the first.
 */
@Injectable()
export class OperationStarter {
  /**
   * Auto-resume makes hundreds of callers resume one sandbox at once. Whoever comes second joins the run of the first, but
   * the server locks a run for each call about it and takes ten updates at a time, so one call is made for all of them.
   */
  private readonly resumes = new SharedStart<StartedOperation>();

  constructor(
    private readonly client: Client,
    private readonly calls: TemporalCalls,
    private readonly store: ControlRepository,
  ) {}

  async start(request: OperationRequest): Promise<StartedOperation> {
    const { kind, input, waitMs } = request;
    if (kind === 'destroy') return this.startDestroy(request);
    if (kind !== 'resume') return this.startExclusive(request);
    return this.resumes.join(`${input.sandboxId} ${waitMs > 0}`, () => this.startExclusive(request));
  }

  private async startExclusive(request: OperationRequest): Promise<StartedOperation> {
    const { kind, input, waitMs } = request;
    for (let attempt = 1; attempt <= START_ATTEMPTS; attempt += 1) {
      try {
        const settled = await this.startWithUpdate(request);
        return { opId: input.opId, settled };
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      }
      const open = await this.openRun(input.sandboxId);
      if (!open) continue;
      if (open.opId === input.opId || (kind === 'resume' && open.kind === 'resume')) {
        return { opId: open.opId, settled: await this.waitFor(input.sandboxId, open, waitMs) };
      }
      if (!(await this.hasClosed(input.sandboxId, open))) throw inProgress(input.sandboxId, open);
    }
    throw new DomainError(
      'operation_in_progress',
      `other operations on sandbox ${input.sandboxId} come first; try again`,
    );
  }

  /** One round trip: starts the run and asks it to answer. */
  private async startWithUpdate(request: OperationRequest): Promise<Settled | null> {
    const { kind, input, waitMs } = request;
    const startWorkflowOperation = new WithStartWorkflowOperation<WorkflowOf>(WORKFLOW_OF[kind], {
      ...startOptions(request),
      workflowIdConflictPolicy: 'FAIL',
    });
    const update = waitMs > 0 ? SETTLED_UPDATE : ACCEPTED_UPDATE;
    const updateId = updateIdOf(update, input.opId);
    const handle = await this.untilTaken(kind, input, () =>
      this.client.workflow.startUpdateWithStart<WorkflowOf, Settled, []>(update, {
        startWorkflowOperation,
        updateId,
        waitForStage: 'ACCEPTED',
      }),
    );
    const run: Run = { opId: input.opId, kind, runId: handle.workflowRunId ?? '' };
    const answer = await this.answerOf(input.sandboxId, run, Math.max(waitMs, ACCEPT_LIMIT_MS), () => handle.result());
    return waitMs > 0 ? answer : null;
  }

  /** Whatever is open under the sandbox's id undoes its work and goes on as this destroy. */
  private async startDestroy(request: Extract<OperationRequest, { kind: 'destroy' }>): Promise<StartedOperation> {
    const { input, waitMs } = request;
    for (let attempt = 1; attempt <= START_ATTEMPTS; attempt += 1) {
      const { signaledRunId } = await this.calls.brief(() =>
        this.client.workflow.signalWithStart(WORKFLOW_OF.destroy, {
          ...startOptions(request),
          signal: REQUEST_DESTROY_SIGNAL,
          signalArgs: [input],
        }),
      );
      const run = await this.destroyRun(input, signaledRunId, waitMs);
      if (run) return { opId: run.opId, settled: await this.waitFor(input.sandboxId, run, waitMs) };
    }
    return { opId: input.opId, settled: null };
  }

  /** Follows what the signal reached until it is a destroy; null when it closed as something else. */
  private async destroyRun(input: DestroySandboxInput, signaledRunId: string, waitMs: number): Promise<Run | null> {
    const limitMs = Math.max(waitMs, ACCEPT_LIMIT_MS);
    let runId: string | null = signaledRunId;
    while (runId !== null) {
      const handle = this.client.workflow.getHandle(sandboxWorkflowId(input.sandboxId), runId);
      const run = runOf(await this.calls.brief(() => handle.describe()));
      if (run.kind === 'destroy') return run;
      runId = await this.continuation(input.sandboxId, runId, limitMs);
    }
    return null;
  }

  /** The run that this one continues as, once it has closed. */
  private async continuation(sandboxId: string, runId: string, limitMs: number): Promise<string | null> {
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId), runId, { followRuns: false });
    try {
      await this.calls.watched(limitMs, () => handle.result());
      return null;
    } catch (error) {
      if (error instanceof WorkflowContinuedAsNewError) return error.newExecutionRunId;
      if (error instanceof DomainError) throw error;
      return null;
    }
  }

  private async waitForClaim(sandboxId: string, run: Run): Promise<void> {
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId), run.runId);
    await this.untilTaken(run.kind, { sandboxId, opId: run.opId }, async () => {
      const claimed = await handle.startUpdate<Accepted, []>(ACCEPTED_UPDATE, {
        updateId: updateIdOf(ACCEPTED_UPDATE, run.opId),
        waitForStage: 'ACCEPTED',
      });
      await this.answerOf(sandboxId, run, ACCEPT_LIMIT_MS, () => claimed.result());
    });
  }

  /** Joins a run that is there already. */
  private async waitFor(sandboxId: string, run: Run, waitMs: number): Promise<Settled | null> {
    if (waitMs === 0) {
      await this.waitForClaim(sandboxId, run);
      return null;
    }
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId), run.runId);
    // One update for all who wait: a run takes ten at a time.
    const updateId = updateIdOf(SETTLED_UPDATE, run.opId);
    return this.answerOf(sandboxId, run, waitMs, () => handle.executeUpdate<Settled, []>(SETTLED_UPDATE, { updateId }));
  }

  /**
   * What an update answered. The run may close before it could answer, and waiting may end
   * before the run does: neither means that the operation failed.
   */
  private async answerOf<T extends Accepted>(
    sandboxId: string,
    run: Run,
    limitMs: number,
    ask: () => Promise<T>,
  ): Promise<T | Settled | null> {
    try {
      return await this.calls.watched(limitMs, ask);
    } catch (error) {
      if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) return null;
      if (!(error instanceof WorkflowNotFoundError)) throw refusalOf(error) ?? error;
    }
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId), run.runId, { followRuns: false });
    return settledByResult(run, () => this.calls.watched(limitMs, () => handle.result()));
  }

  /** Until a control worker has begun the run. It stays started when none does: the same `opId` finds it again. */
  private async untilTaken<T>(
    kind: OperationKind,
    { sandboxId, opId }: { sandboxId: string; opId: string },
    call: () => Promise<T>,
  ): Promise<T> {
    try {
      return await this.calls.watched(ACCEPT_LIMIT_MS, call);
    } catch (error) {
      if (!(error instanceof WorkflowUpdateRPCTimeoutOrCancelledError)) throw refusalOf(error) ?? error;
      throw new DomainError(
        'control_plane_unavailable',
        `no control worker took the ${kind} of sandbox ${sandboxId} within ${ACCEPT_LIMIT_MS / 1000} s; it is carried out when one does`,
        { part: 'control-worker', operation_id: opId, sandbox_id: sandboxId },
        { cause: error },
      );
    }
  }

  /**
   * An operation whose end the row tells already may have a little left to do, like
   * forgetting the memory that a resume came from: the next one waits for that instead
   * of being refused for something that its caller was told is over.
   */
  private async hasClosed(sandboxId: string, open: Run): Promise<boolean> {
    const operation = await this.store.findOperation(open.opId);
    if (!operation || operation.state === 'running') return false;
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId), open.runId, { followRuns: false });
    try {
      await this.calls.watched(CLOSE_LIMIT_MS, () => handle.result());
      return true;
    } catch (error) {
      if (error instanceof DomainError) throw error;
      return error instanceof WorkflowFailedError || error instanceof WorkflowContinuedAsNewError;
    }
  }

  /** The run that holds the sandbox; null when none does any more. */
  private async openRun(sandboxId: string): Promise<Run | null> {
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId));
    const description = await this.calls.brief(() => handle.describe());
    return description.status.name === 'RUNNING' ? runOf(description) : null;
  }
}

/** A run that somebody started by hand has no memo, so its type says what it does. */
function runOf({ runId, type, memo }: WorkflowExecutionDescription): Run {
  const kind = OPERATION_KINDS.find((known) => WORKFLOW_OF[known] === type);
  if (!kind) throw new DomainError('internal_error', `run ${runId} of type ${type} has the id of a sandbox operation`);
  return { runId, kind, opId: typeof memo?.['opId'] === 'string' ? memo['opId'] : runId };
}

/** An update id is unique within a run whatever its name, so the name is part of it. */
function updateIdOf(update: string, opId: string): string {
  return `${update}-${opId}`;
}

function inProgress(sandboxId: string, open: Run): DomainError {
  return new DomainError(
    'operation_in_progress',
    `sandbox ${sandboxId} is being worked on: ${open.kind} ${open.opId}`,
    {
      operation: { id: open.opId, kind: open.kind },
    },
  );
}

function startOptions({ kind, input, templateId, hostId }: OperationRequest): WorkflowStartOptions<WorkflowOf> {
  const { opId, sandboxId, teamId } = input;
  return {
    workflowId: sandboxWorkflowId(sandboxId),
    taskQueue: CONTROL_QUEUE,
    args: [input],
    memo: { opId, kind },
    typedSearchAttributes: [
      { key: SANDBOX_ID, value: sandboxId },
      { key: TEAM_ID, value: teamId },
      { key: TEMPLATE_ID, value: templateId },
      { key: OP_ID, value: opId },
      ...(hostId === null ? [] : [{ key: HOST_ID, value: hostId }]),
      { key: STAGE, value: 'claim' },
    ],
    staticSummary: `${kind} sandbox ${sandboxId}`,
    staticDetails: `Operation \`${opId}\` of team \`${teamId}\`, template \`${templateId}\`. Look at it: \`torpor op get ${opId}\``,
  };
}
