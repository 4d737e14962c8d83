import { Injectable } from '@nestjs/common';
import { Client } from '@temporalio/client';
import { sandboxWorkflowId } from '../../workflows/contract/ids.js';
import { PROGRESS_QUERY, type Progress } from '../../workflows/contract/operations.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';
import type { OperationProgressDto } from './operation.dto.js';
import type { OperationEntity } from './operation.entity.js';

const LIMIT_MS = 2_000;

/** What a running operation does now, as Temporal knows it. */
@Injectable()
export class OperationProgress {
  constructor(
    private readonly client: Client,
    private readonly calls: TemporalCalls,
  ) {}

  /** Null when it cannot be told: reading an operation works without Temporal. */
  async of({ sandboxId, runId }: OperationEntity): Promise<OperationProgressDto | null> {
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId), runId);
    try {
      const [description, progress] = await this.calls.watched(LIMIT_MS, () =>
        Promise.all([handle.describe(), handle.query<Progress>(PROGRESS_QUERY)]),
      );
      const pending = (description.raw.pendingActivities ?? []).map((activity) => ({
        activity: activity.activityType?.name ?? '',
        attempt: activity.attempt ?? 1,
        last_failure: activity.lastFailure?.message ?? null,
      }));
      const { stage, undoing, committed } = progress;
      return { stage, undoing, committed, pending };
    } catch {
      return null;
    }
  }
}
