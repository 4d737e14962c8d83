import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { canMove, OPERATIONS, type OperationKind } from '../../workflows/contract/states.js';
import type { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { OperationStarter, type OperationRequest, type StartedOperation } from './operation-starter.js';
import { OperationRepository } from './operation.repository.js';

export interface RunOptions {
  opId: string;
  waitMs: number;
  /** Why a destroy is started, as the events show it. */
  reason: string;
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
    await this.refuseEarly(sandbox, kind);
    const { id: sandboxId, teamId, templateId, hostId } = sandbox;
    const input = { opId: options.opId, sandboxId, teamId };
    const target = { templateId, hostId, waitMs: options.waitMs };
    return kind === 'destroy'
      ? this.start(sandbox, { ...target, kind, input: { ...input, reason: options.reason } })
      : this.start(sandbox, { ...target, kind, input });
  }

  /** The start itself decides; the row is asked first because it can say more. */
  private async refuseEarly(sandbox: SandboxEntity, kind: Exclude<OperationKind, 'create'>): Promise<void> {
    const open = (await this.operations.openOf(sandbox.teamId, [sandbox.id])).get(sandbox.id);
    if (kind === 'destroy' || (kind === 'resume' && open?.kind === 'resume')) return;
    const { state } = sandbox;
    const details = { state, ...(open ? { operation: { id: open.id, kind: open.kind } } : {}) };
    if (open) {
      throw new DomainError(
        'operation_in_progress',
        `sandbox ${sandbox.id} is ${state}: ${open.kind} ${open.id} is under way`,
        details,
      );
    }
    if (!OPERATIONS[kind].from.includes(state) || !canMove(state, OPERATIONS[kind].during)) {
      throw new DomainError('state_conflict', `cannot ${kind} sandbox ${sandbox.id}: it is ${state}`, details);
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

/** How the operation failed, told to the caller who waited for it. */
export function throwFailure({ opId, settled }: StartedOperation, sandboxId: string): void {
  if (!settled?.failure) return;
  const { step, code, message, needsAttention } = settled.failure;
  throw new DomainError(code, `${settled.kind} failed at ${step}: ${message}`, {
    operation_id: opId,
    sandbox_id: sandboxId,
    step,
    ...(needsAttention ? { needs_attention: needsAttention } : {}),
  });
}
