import { isDeepStrictEqual } from 'node:util';
import { Injectable } from '@nestjs/common';
import { Client, WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { DomainError } from '../../workflows/contract/errors.js';
import type { ReconcileReport } from '../../workflows/contract/findings.js';
import { CONTROL_QUEUE, RECONCILE_WORKFLOW_ID } from '../../workflows/contract/ids.js';
import { RECONCILE_WORKFLOW, type ReconcileInput } from '../../workflows/contract/operations.js';
import { STAGE } from '../../workflows/contract/search-attributes.js';
import { failureOf } from '../operation/run-outcome.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';

/** Longer than it takes to give up on many hosts that do not answer. */
const LIMIT_MS = 5 * 60_000;
/** Others may have asked for another kind of reconciliation just before. */
const ATTEMPTS = 3;

/** Reconciliations that somebody asks for. At most one is open; whoever asks for the same one joins it. */
@Injectable()
export class ReconcileRunner {
  constructor(
    private readonly client: Client,
    private readonly calls: TemporalCalls,
  ) {}

  async run(input: ReconcileInput): Promise<ReconcileReport> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const handle = await this.ensureRun(input);
      const { memo } = await this.calls.brief(() => handle.describe());
      const report = await this.reportOf(handle);
      if (isDeepStrictEqual(memo?.['input'], input)) return report;
    }
    throw new DomainError(
      'operation_in_progress',
      'other reconciliations are under way; try again when they have ended',
    );
  }

  private async ensureRun(input: ReconcileInput): Promise<WorkflowHandle> {
    const { firstExecutionRunId } = await this.calls.brief(() =>
      this.client.workflow.start(RECONCILE_WORKFLOW, {
        workflowId: RECONCILE_WORKFLOW_ID,
        workflowIdConflictPolicy: 'USE_EXISTING',
        taskQueue: CONTROL_QUEUE,
        args: [input],
        memo: { input },
        typedSearchAttributes: [{ key: STAGE, value: 'reconcile' }],
        staticSummary: input.dryRun ? 'compare rows, runs and hosts' : 'compare rows, runs and hosts, and mend',
      }),
    );
    return this.client.workflow.getHandle(RECONCILE_WORKFLOW_ID, firstExecutionRunId);
  }

  private async reportOf(handle: WorkflowHandle): Promise<ReconcileReport> {
    const given = Date.now() + LIMIT_MS;
    try {
      return await this.calls.watched<ReconcileReport>(LIMIT_MS, () => handle.result());
    } catch (error) {
      if (error instanceof DomainError) throw error;
      const failure = error instanceof WorkflowFailedError ? failureOf(error.cause) : null;
      if (failure) throw new DomainError(failure.code, `the reconciliation failed: ${failure.message}`);
      if (Date.now() < given) throw error;
      throw new DomainError('timeout', `the reconciliation did not end in ${LIMIT_MS / 60_000} minutes and goes on`, {
        workflow_id: RECONCILE_WORKFLOW_ID,
      });
    }
  }
}
