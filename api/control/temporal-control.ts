import { Injectable } from '@nestjs/common';
import { Client, WorkflowNotFoundError } from '@temporalio/client';
import type { ControlTemporal } from '../../activities/control/ports.js';
import { DomainError, type Failure } from '../../workflows/contract/errors.js';
import { CONTROL_QUEUE, ttlWorkflowId } from '../../workflows/contract/ids.js';
import { REARM_SIGNAL, TTL_WORKFLOW, type SandboxTtlInput } from '../../workflows/contract/operations.js';
import { HOST_ID, SANDBOX_ID, STAGE, TEAM_ID, TEMPLATE_ID } from '../../workflows/contract/search-attributes.js';
import { OperationStarter } from '../operation/operation-starter.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';
import { ControlRepository } from './control.repository.js';

/** Shorter than the hour that the activity has, so that it can still say what became of it. */
const OPERATION_LIMIT_MS = 50 * 60_000;

/** Who wakes a keeper does not wait long for it: nothing depends on it. */
const WAKE_LIMIT_MS = 2_000;

/** What the control activities ask of Temporal, done with the same starter that the API uses. */
@Injectable()
export class TemporalControl implements ControlTemporal {
  constructor(
    private readonly client: Client,
    private readonly calls: TemporalCalls,
    private readonly starter: OperationStarter,
    private readonly store: ControlRepository,
  ) {}

  async armKeeper(sandbox: { id: string; teamId: string; templateId: string; hostId: string | null }): Promise<void> {
    const { id, teamId, templateId, hostId } = sandbox;
    const input: SandboxTtlInput = { sandboxId: id };
    await this.calls.brief(() =>
      this.client.workflow.signalWithStart(TTL_WORKFLOW, {
        workflowId: ttlWorkflowId(id),
        taskQueue: CONTROL_QUEUE,
        args: [input],
        signal: REARM_SIGNAL,
        typedSearchAttributes: [
          { key: SANDBOX_ID, value: id },
          { key: TEAM_ID, value: teamId },
          { key: TEMPLATE_ID, value: templateId },
          ...(hostId === null ? [] : [{ key: HOST_ID, value: hostId }]),
          { key: STAGE, value: 'waiting' },
        ],
        staticSummary: `timeout of sandbox ${id}`,
      }),
    );
  }

  async wakeKeeper(sandboxId: string): Promise<void> {
    const keeper = this.client.workflow.getHandle(ttlWorkflowId(sandboxId));
    try {
      await this.calls.watched(WAKE_LIMIT_MS, () => keeper.signal(REARM_SIGNAL));
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  }

  async runOperation({
    kind,
    opId,
    sandboxId,
    teamId,
    reason,
  }: Parameters<ControlTemporal['runOperation']>[0]): Promise<{ failure: Failure | null }> {
    const sandbox = await this.store.findSandbox(sandboxId);
    if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
    const target = { templateId: sandbox.templateId, hostId: sandbox.hostId, waitMs: OPERATION_LIMIT_MS };
    const input = { opId, sandboxId, teamId };
    const { settled } =
      kind === 'destroy'
        ? await this.starter.start({ ...target, kind, input: { ...input, reason } })
        : await this.starter.start({ ...target, kind, input });
    if (settled) return { failure: settled.failure ?? null };
    throw new DomainError(
      'timeout',
      `${kind} ${opId} of sandbox ${sandboxId} did not end in ${OPERATION_LIMIT_MS / 60_000} minutes`,
    );
  }
}
