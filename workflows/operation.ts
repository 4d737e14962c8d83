import {
  allHandlersFinished,
  CancellationScope,
  condition,
  defineQuery,
  defineSignal,
  defineUpdate,
  isCancellation,
  log,
  makeContinueAsNewFunc,
  setCurrentDetails,
  setHandler,
  upsertMemo,
  upsertSearchAttributes,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';
import type { RunRef, SettleInput } from '../activities/control/contract.js';
import { control } from './control-steps.js';
import type { Failure } from './contract/errors.js';
import {
  ACCEPTED_UPDATE,
  PROGRESS_QUERY,
  REQUEST_DESTROY_SIGNAL,
  SETTLED_UPDATE,
  WORKFLOW_OF,
  type Accepted,
  type DestroySandboxInput,
  type OperationInput,
  type Progress,
  type Settled,
} from './contract/operations.js';
import { HOST_ID, OP_ID, SANDBOX_ID, STAGE, TEAM_ID } from './contract/search-attributes.js';
import { OPERATIONS, type OperationKind } from './contract/states.js';
import { describeFailure, toWorkflowFailure } from './failure.js';
import { HostSteps } from './host-steps.js';
import { stateAfterFailure } from './state-after-failure.js';
import { timingOf } from './timing.js';
import { asAttention, UndoStack, type UndoFailure } from './undo-stack.js';

const acceptedUpdate = defineUpdate<Accepted>(ACCEPTED_UPDATE);
const settledUpdate = defineUpdate<Settled>(SETTLED_UPDATE);
const requestDestroySignal = defineSignal<[DestroySandboxInput]>(REQUEST_DESTROY_SIGNAL);
const progressQuery = defineQuery<Progress>(PROGRESS_QUERY);

type Claimant = RunRef & { opId: string };

/**
 * What all lifecycle operations share: taking the sandbox, saying what is under way,
 * turning back, the commit point, giving the sandbox back, and making way for destroy.
 * The workflow files hold only the story of their verb.
 */
export class Operation {
  readonly undo = new UndoStack();
  private opId: string;
  private onHost: HostSteps | undefined;
  private progress: Progress = { stage: 'claim', undoing: false, committed: false };
  private accepted: Accepted | undefined;
  private settled: Settled | undefined;
  private refusal: Failure | undefined;
  private destroy: DestroySandboxInput | undefined;
  private readonly scope = new CancellationScope();
  private forwardScope: CancellationScope | undefined;

  constructor(
    readonly kind: OperationKind,
    readonly input: OperationInput,
  ) {
    this.opId = input.opId;
    setHandler(acceptedUpdate, () => this.whenAccepted());
    setHandler(settledUpdate, () => this.whenSettled());
    setHandler(progressQuery, () => this.progress);
    setHandler(requestDestroySignal, (request) => this.makeWayFor(request));
  }

  /** Tells the Temporal UI and `torpor op get` what is under way. */
  stage(stage: string): void {
    this.progress = { ...this.progress, stage };
    const phase = this.progress.committed ? 'past the commit point, only forward' : 'can still turn back';
    setCurrentDetails(`**${this.kind}** of sandbox \`${this.input.sandboxId}\`: ${stage} (${phase})`);
  }

  /** Takes the sandbox. Not cancellable: once the row says that this run owns it, this run must give it back. */
  async claim<T extends { epoch: number }>(take: (by: Claimant) => Promise<T>): Promise<T> {
    this.stage('claim');
    try {
      const claim = await CancellationScope.nonCancellable(() => this.takeOrRepeat(take));
      this.accepted = { opId: this.opId, kind: this.kind, epoch: claim.epoch };
      return claim;
    } catch (err) {
      this.refusal = describeFailure(err, 'claim');
      throw err;
    }
  }

  /**
   * A run that an operator reset to its first task, or started again by hand, has the input of the run before it, whose
   * operation is another run's. It repeats it as an operation of its own, whose epoch fences out what that one left under
   * way. Any other run that finds its operation taken is a duplicate and ends.
   */
  private async takeOrRepeat<T>(take: (by: Claimant) => Promise<T>): Promise<T> {
    const { runId } = workflowInfo();
    try {
      return await take({ opId: this.opId, runId });
    } catch (err) {
      if (!isRepetition(this.opId) || describeFailure(err).code !== 'stale_operation') throw err;
      this.opId = uuid4().replaceAll('-', '');
      upsertMemo({ opId: this.opId, kind: this.kind });
      upsertSearchAttributes([{ key: OP_ID, value: this.opId }]);
      return take({ opId: this.opId, runId });
    }
  }

  get epoch(): number {
    if (!this.accepted) throw new Error('the sandbox is not claimed yet');
    return this.accepted.epoch;
  }

  host(hostId: string): HostSteps {
    const { opId } = this;
    const { sandboxId } = this.input;
    this.onHost = new HostSteps(hostId, { sandboxId, opId, epoch: this.epoch }, timingOf(this.input));
    return this.onHost;
  }

  /**
   * From here on the operation only goes forward: what `steps` does is retried without
   * limit and is not undone. Cancelling the run has no effect; only a destroy, which
   * does the same work and more, may take over.
   */
  async forward(steps: () => Promise<void>): Promise<void> {
    this.undo.clear();
    this.progress = { ...this.progress, committed: true };
    await CancellationScope.nonCancellable(async () => {
      this.forwardScope = new CancellationScope();
      if (this.destroy) this.forwardScope.cancel();
      await this.forwardScope.run(steps);
    });
  }

  /** Success: the row says so before the caller hears of it. */
  async succeed(end: Pick<Partial<SettleInput>, 'sandbox' | 'memoryLost' | 'note'> = {}): Promise<void> {
    await this.settle({ operation: 'succeeded', sandbox: OPERATIONS[this.kind].success, ...end });
  }

  /** Runs the story of the verb to its end, whatever that is. */
  async run(story: (op: Operation) => Promise<void>): Promise<void> {
    let failure: unknown;
    try {
      await this.scope.run(() => story(this));
    } catch (err) {
      failure = err;
      await CancellationScope.nonCancellable(() => this.turnBack(err));
    }
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
    if (this.destroy && this.kind !== 'destroy') await this.continueAsDestroy(this.destroy);
    if (failure !== undefined) throw this.closingError(failure);
  }

  private async turnBack(err: unknown): Promise<void> {
    if (!this.accepted || this.settled) return;
    const failure = describeFailure(err, this.progress.stage);
    // Fenced out: a newer operation owns the sandbox. Nothing here is ours to undo.
    if (failure.code === 'stale_operation') {
      this.settled = { ...this.accepted, failure };
      return;
    }
    log.warn('operation turns back', { ...failure });
    this.progress = { ...this.progress, undoing: true };
    this.stage(`undo after ${failure.step}`);
    upsertSearchAttributes([{ key: STAGE, value: `undo:${failure.step}` }]);
    const { committed } = this.progress;
    // Where there is something to undo, the undos find out whether the host is back.
    const away = this.undo.isEmpty && failure.code === 'host_unavailable';
    const left = committed ? [] : await this.undo.unwind();
    if (left.length > 0) failure.needsAttention = asAttention(left);
    if (!committed && !away) await this.closeOnHost(left);
    const cancelled = this.destroy !== undefined || isCancellation(err);
    await this.settle({
      operation: cancelled ? 'cancelled' : 'failed',
      sandbox: stateAfterFailure({ kind: this.kind, committed, cancelled, failure, left }),
      failure,
    });
    upsertSearchAttributes([{ key: STAGE, value: `failed:${failure.step}` }]);
  }

  /**
   * From here on the host refuses whatever of this operation comes late, as from a run that is reset into its middle. A host
   * that is away is not waited for: what it is asked by then is refused by the newer epoch of the next operation.
   */
  private async closeOnHost(left: readonly UndoFailure[]): Promise<void> {
    if (!this.onHost || left.some(({ code }) => code === 'host_unavailable')) return;
    try {
      await this.onHost.undo('closeEpoch', {});
    } catch (err) {
      log.warn('the epoch stays open on the host', { ...describeFailure(err) });
    }
  }

  private async settle(end: Omit<SettleInput, 'sandboxId' | 'opId' | 'epoch'>): Promise<void> {
    const { opId } = this;
    const { sandboxId } = this.input;
    await CancellationScope.nonCancellable(() => control.settle({ sandboxId, opId, epoch: this.epoch, ...end }));
    const { failure } = end;
    this.settled = { opId, kind: this.kind, epoch: this.epoch, ...(failure ? { failure } : {}) };
  }

  private closingError(err: unknown): Error {
    if (err instanceof Error && isCancellation(err)) return err;
    const failure = this.refusal ?? this.settled?.failure;
    return toWorkflowFailure(failure ?? { step: this.kind, code: 'internal_error', message: 'ended without a result' });
  }

  private async whenAccepted(): Promise<Accepted> {
    await condition(() => this.accepted !== undefined || this.refusal !== undefined);
    if (this.refusal) throw toWorkflowFailure(this.refusal);
    return this.accepted as Accepted;
  }

  private async whenSettled(): Promise<Settled> {
    await condition(() => this.settled !== undefined || this.refusal !== undefined);
    if (this.refusal) throw toWorkflowFailure(this.refusal);
    return this.settled as Settled;
  }

  private makeWayFor(request: DestroySandboxInput): void {
    if (this.kind === 'destroy' || this.destroy) return;
    this.destroy = request;
    this.scope.cancel();
    this.forwardScope?.cancel();
  }

  /** The id, and so the lock, is never released between this run and the destroy. */
  private async continueAsDestroy(request: DestroySandboxInput): Promise<never> {
    const { opId, sandboxId, teamId } = request;
    const hostId = workflowInfo().typedSearchAttributes.get(HOST_ID);
    const go = makeContinueAsNewFunc<(input: DestroySandboxInput) => Promise<void>>({
      workflowType: WORKFLOW_OF.destroy,
      memo: { opId, kind: 'destroy' },
      typedSearchAttributes: [
        { key: SANDBOX_ID, value: sandboxId },
        { key: TEAM_ID, value: teamId },
        { key: OP_ID, value: opId },
        ...(hostId ? [{ key: HOST_ID, value: hostId }] : []),
        { key: STAGE, value: 'claim' },
      ],
    });
    return go(request);
  }
}

/** Reset, or started without the memo that the API gives every run. */
function isRepetition(opId: string): boolean {
  const { runId, firstExecutionRunId, continuedFromExecutionRunId, memo } = workflowInfo();
  const reset = runId !== firstExecutionRunId && continuedFromExecutionRunId === undefined;
  return reset || (memo?.['opId'] !== opId && continuedFromExecutionRunId === undefined);
}

export async function operation(
  kind: OperationKind,
  input: OperationInput,
  story: (op: Operation) => Promise<void>,
): Promise<void> {
  await new Operation(kind, input).run(story);
}
