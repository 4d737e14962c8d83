import { Injectable } from '@nestjs/common';
import {
  Client,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
} from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { buildWorkflowId, CONTROL_QUEUE } from '../../workflows/contract/ids.js';
import { BUILD_WORKFLOW, type TemplateBuildInput } from '../../workflows/contract/operations.js';
import { OP_ID, STAGE, TEAM_ID, TEMPLATE_ID } from '../../workflows/contract/search-attributes.js';
import { failureOf } from '../operation/run-outcome.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';

@Injectable()
export class BuildStarter {
  constructor(
    private readonly client: Client,
    private readonly calls: TemporalCalls,
  ) {}

  /** One run for ever per build: starting it again finds the run that is there. */
  async start(input: TemplateBuildInput): Promise<void> {
    const { buildId, templateId, teamId, vcpus, memoryMb } = input;
    try {
      await this.calls.brief(() =>
        this.client.workflow.start(BUILD_WORKFLOW, {
          workflowId: buildWorkflowId(buildId),
          workflowIdReusePolicy: 'REJECT_DUPLICATE',
          taskQueue: CONTROL_QUEUE,
          args: [input],
          memo: { opId: buildId, kind: 'build' },
          typedSearchAttributes: [
            { key: TEAM_ID, value: teamId },
            { key: TEMPLATE_ID, value: templateId },
            { key: OP_ID, value: buildId },
            { key: STAGE, value: 'begin' },
          ],
          staticSummary: `build template ${templateId} (${vcpus} vCPU, ${memoryMb} MiB)`,
        }),
      );
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }

  /** Resolves when the build has ended, however; rejects with the failure when it could not even begin. */
  async ended(buildId: string, limitMs: number): Promise<'ended' | 'running'> {
    const handle = this.client.workflow.getHandle(buildWorkflowId(buildId));
    try {
      await this.calls.watched(limitMs, () => handle.result());
      return 'ended';
    } catch (error) {
      if (error instanceof DomainError) throw error;
      if (!(error instanceof WorkflowFailedError)) return 'running';
      throw failedBuild(buildId, error.cause) ?? error;
    }
  }

  async cancel(buildId: string): Promise<void> {
    try {
      await this.calls.brief(() => this.client.workflow.getHandle(buildWorkflowId(buildId)).cancel());
    } catch (error) {
      // It has ended meanwhile.
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  }
}

/** Why a build failed; one that could not even begin has the facts of its first step's refusal. */
function failedBuild(buildId: string, cause: unknown): DomainError | null {
  const failure = failureOf(cause);
  if (!failure || !(cause instanceof ApplicationFailure)) return null;
  const { code, step, message } = failure;
  const facts = step === 'workflow' ? (cause.details?.[0] as object | undefined) : { step };
  return new DomainError(code, message, { build_id: buildId, ...facts }, { cause });
}
