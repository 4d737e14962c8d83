import { Injectable } from '@nestjs/common';
import { Client, WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import type { ControlTemporal } from '../../activities/control/ports.js';
import { DomainError, type Failure } from '../../workflows/contract/errors.js';
import { CONTROL_QUEUE, hostWatchWorkflowId, ttlWorkflowId } from '../../workflows/contract/ids.js';
import {
  HOST_WATCH_WORKFLOW,
  REARM_SIGNAL,
  TTL_WORKFLOW,
  type HostWatchInput,
  type SandboxTtlInput,
} from '../../workflows/contract/operations.js';
import { HOST_ID, SANDBOX_ID, STAGE, TEAM_ID, TEMPLATE_ID } from '../../workflows/contract/search-attributes.js';
import { OperationStarter } from '../operation/operation-starter.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';
import { ControlRepository } from './control.repository.js';

/** Shorter than the hour that the activity has, so that it can still say what became of it. */
const OPERATION_LIMIT_MS = 50 * 60_000;

/** Who wakes a keeper does not wait long for it: nothing depends on it. */
const WAKE_LIMIT_MS = 2_000;

/** A list of visibility has pages of a thousand. */
const LIST_LIMIT_MS = 30_000;

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

  async isOpen(workflowId: string): Promise<boolean> {
    try {
      const { status } = await this.calls.brief(() => this.client.workflow.getHandle(workflowId).describe());
      return status.name === 'RUNNING';
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return false;
      throw error;
    }
  }

  async keptOn(hostId: string | null): Promise<ReadonlySet<string>> {
    const place = hostId === null ? `HostId IS NULL` : `HostId = "${hostId}"`;
    const query = `WorkflowType = "${TTL_WORKFLOW}" AND ExecutionStatus = "Running" AND ${place}`;
    return this.calls.watched(LIST_LIMIT_MS, async () => {
      const kept = new Set<string>();
      for await (const { typedSearchAttributes } of this.client.workflow.list({ query })) {
        const sandboxId = typedSearchAttributes.get(SANDBOX_ID);
        if (sandboxId !== undefined) kept.add(sandboxId);
      }
      return kept;
    });
  }

  async ensureWatch(hostId: string): Promise<void> {
    const input: HostWatchInput = { hostId };
    try {
      await this.calls.brief(() =>
        this.client.workflow.start(HOST_WATCH_WORKFLOW, {
          workflowId: hostWatchWorkflowId(hostId),
          taskQueue: CONTROL_QUEUE,
          args: [input],
          typedSearchAttributes: [
            { key: HOST_ID, value: hostId },
            { key: STAGE, value: 'watching' },
          ],
          staticSummary: `lease of host ${hostId}`,
        }),
      );
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }

  async startRepair({
    kind,
    opId,
    sandbox,
    ifEpoch,
    reason,
  }: Parameters<ControlTemporal['startRepair']>[0]): Promise<{ opId: string }> {
    const { id: sandboxId, teamId, templateId, hostId } = sandbox;
    const target = { templateId, hostId, waitMs: 0 };
    const input = { opId, sandboxId, teamId, reason };
    return kind === 'destroy'
      ? this.starter.start({ ...target, kind, input })
      : this.starter.start({ ...target, kind, input: { ...input, ifEpoch, boot: false, discardMemory: false } });
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
