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
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { SettleInput } from '../activities/control/contract.js';
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
import { OPERATIONS, type OperationKind, type SandboxState } from './contract/states.js';
import { describeFailure, toWorkflowFailure } from './failure.js';
import { HostSteps } from './host-steps.js';
import { timingOf } from './timing.js';
import { UndoStack } from './undo-stack.js';

const acceptedUpdate = defineUpdate<Accepted>(ACCEPTED_UPDATE);
const settledUpdate = defineUpdate<Settled>(SETTLED_UPDATE);
const requestDestroySignal = defineSignal<[DestroySandboxInput]>(REQUEST_DESTROY_SIGNAL);
const progressQuery = defineQuery<Progress>(PROGRESS_QUERY);

/**
 * What all lifecycle operations share: taking the sandbox, saying what is under way,
 * turning back, the commit point, giving the sandbox back, and making way for destroy.
 * The workflow files hold only the story of their verb.
 */
export class Operation {
  readonly undo = new UndoStack();
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
  async claim<T extends { epoch: number; hostId: string | null }>(take: () => Promise<T>): Promise<T> {
    this.stage('claim');
    try {
      const claim = await CancellationScope.nonCancellable(take);
      this.accepted = { opId: this.input.opId, kind: this.kind, epoch: claim.epoch };
      return claim;
    } catch (err) {
      this.refusal = describeFailure(err, 'claim');
      throw err;
    }
  }

  get epoch(): number {
    if (!this.accepted) throw new Error('the sandbox is not claimed yet');
    return this.accepted.epoch;
  }

  host(hostId: string): HostSteps {
    const { sandboxId, opId } = this.input;
    return new HostSteps(hostId, { sandboxId, opId, epoch: this.epoch }, timingOf(this.input));
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
  async succeed(): Promise<void> {
    await this.settle({ operation: 'succeeded', sandbox: OPERATIONS[this.kind].success });
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
    const left = this.progress.committed ? [] : await this.undo.unwind();
    if (left.length > 0) failure.needsAttention = left;
    const cancelled = this.destroy !== undefined || isCancellation(err);
    await this.settle({
      operation: cancelled ? 'cancelled' : 'failed',
      sandbox: this.stateAfterFailure(left),
      failure,
    });
    upsertSearchAttributes([{ key: STAGE, value: `failed:${failure.step}` }]);
  }

  private stateAfterFailure(left: string[]): SandboxState {
    const { during, undone } = OPERATIONS[this.kind];
    // A destroy that takes over behind the commit point finds the sandbox as it is.
    if (this.progress.committed) return during;
    return left.length > 0 ? 'error' : undone;
  }

  private async settle(end: Pick<SettleInput, 'operation' | 'sandbox' | 'failure'>): Promise<void> {
    const { sandboxId, opId } = this.input;
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

export async function operation(
  kind: OperationKind,
  input: OperationInput,
  story: (op: Operation) => Promise<void>,
): Promise<void> {
  await new Operation(kind, input).run(story);
}
