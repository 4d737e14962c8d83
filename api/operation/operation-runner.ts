import { Injectable } from '@nestjs/common';
import { DomainError, ERRORS } from '../../workflows/contract/errors.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import { mayBegin, verbOf, type OperationKind } from '../../workflows/contract/states.js';
import type { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { OperationStarter, type OperationRequest, type StartedOperation } from './operation-starter.js';
import { OperationRepository } from './operation.repository.js';

export interface RunOptions {
  opId: string;
  waitMs: number;
  /** Why a destroy or a recovery is started, as the events show it. */
  reason: string;
  /** A recovery may give up the saved memory of a paused sandbox. */
  discardMemory?: boolean;
  /** Of a change of the network policy: the new one. */
  network?: NetworkPolicy;
}

/**
 * Operations on a sandbox that exists, as the API starts them: refused early and with
 * facts where the row already says no, and with the failure as an error where the
 * caller waited for it.
 */
@Injectable()
export class OperationRunner {
  constructor(
    private readonly starter: OperationStarter,
    private readonly operations: OperationRepository,
  ) {}

  async run(
    sandbox: SandboxEntity,
    kind: Exclude<OperationKind, 'create'>,
    options: RunOptions,
  ): Promise<StartedOperation> {
    const { opId, waitMs, reason, discardMemory = false, network } = options;
    await this.refuseEarly(sandbox, kind, opId, discardMemory);
    const { id: sandboxId, teamId, templateId, hostId } = sandbox;
    const input = { opId, sandboxId, teamId };
    const target = { templateId, hostId, waitMs };
    switch (kind) {
      case 'destroy':
        return this.start(sandbox, { ...target, kind, input: { ...input, reason } });
      case 'recover':
        // Whoever asks for it wants the sandbox to run, whatever its own policy is.
        return this.start(sandbox, { ...target, kind, input: { ...input, reason, boot: true, discardMemory } });
      case 'network':
        if (!network) throw new DomainError('invalid_request', `operation ${opId} does not say which policy it brings`);
        return this.start(sandbox, { ...target, kind, input: { ...input, network } });
      case 'pause':
      case 'resume':
        return this.start(sandbox, { ...target, kind, input });
    }
  }

  /** The start itself decides; the row is asked first because it can say more. */
  private async refuseEarly(
    sandbox: SandboxEntity,
    kind: Exclude<OperationKind, 'create'>,
    opId: string,
    discardMemory: boolean,
  ): Promise<void> {
    const open = (await this.operations.openOf(sandbox.teamId, [sandbox.id])).get(sandbox.id);
    // The same request again is not in its own way: the start joins the run.
    if (open?.id === opId || kind === 'destroy' || (kind === 'resume' && open?.kind === 'resume')) return;
    const { state } = sandbox;
    const details = { state, ...(open ? { operation: { id: open.id, kind: open.kind } } : {}) };
    // An operation whose run is gone is one of the things that a recovery is for: the start tells which it is.
    if (open && kind !== 'recover') {
      throw new DomainError(
        'operation_in_progress',
        `sandbox ${sandbox.id} is ${state}: ${open.kind} ${open.id} is under way`,
        details,
      );
    }
    if (!mayBegin(kind, state)) {
      throw new DomainError('state_conflict', `cannot ${verbOf(kind)} sandbox ${sandbox.id}: it is ${state}`, details);
    }
    if (kind === 'recover' && state === 'paused' && !discardMemory) {
      throw new DomainError(
        'state_conflict',
        `sandbox ${sandbox.id} is paused: resume it, or recover it with discard_memory to boot it from its disk`,
        details,
      );
    }
  }

  private async start(sandbox: SandboxEntity, request: OperationRequest): Promise<StartedOperation> {
    const started = await this.starter.start(request).catch((error: unknown) => {
      if (!(error instanceof DomainError) || 'state' in error.details) throw error;
      throw new DomainError(error.code, error.message, { state: sandbox.state, ...error.details }, { cause: error });
    });
    throwFailure(started, sandbox.id);
    return started;
  }
}

/**
 * How the operation failed, told to the caller who waited for it. The operation is over: whoever sends the same request
 * again under the same Idempotency-Key is told the same, also where the code says that trying again may help.
 */
export function throwFailure({ opId, settled }: StartedOperation, sandboxId: string): void {
  if (!settled?.failure) return;
  const { step, code, message, needsAttention } = settled.failure;
  const again = ERRORS[code].retryable ? '; the operation is over, a new one needs a new Idempotency-Key' : '';
  throw new DomainError(code, `${settled.kind} failed at ${step}: ${message}${again}`, {
    operation_id: opId,
    operation_state: 'failed',
    sandbox_id: sandboxId,
    step,
    ...(needsAttention ? { needs_attention: needsAttention } : {}),
  });
}
