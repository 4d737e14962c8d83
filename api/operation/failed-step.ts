import { Injectable } from '@nestjs/common';
import { Client } from '@temporalio/client';
import { sandboxWorkflowId } from '../../workflows/contract/ids.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';
import type { OperationEntity } from './operation.entity.js';

const LIMIT_MS = 2_000;

/** What the run of a failed operation, of some forty events, tells of the step that failed. */
@Injectable()
export class FailedStep {
  constructor(
    private readonly client: Client,
    private readonly calls: TemporalCalls,
  ) {}

  /**
   * How often the step was tried. Null when it cannot be told: no step of a host failed, or Temporal is away or has
   * forgotten the run.
   */
  async attemptsOf({ sandboxId, runId, failure }: OperationEntity): Promise<number | null> {
    if (!failure) return null;
    const handle = this.client.workflow.getHandle(sandboxWorkflowId(sandboxId), runId);
    try {
      const { events } = await this.calls.watched(LIMIT_MS, () => handle.fetchHistory());
      return attemptsIn(events ?? [], failure.step);
    } catch {
      return null;
    }
  }
}

type HistoryEvents = NonNullable<
  Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['fetchHistory']>>['events']
>;

function attemptsIn(events: HistoryEvents, step: string): number | null {
  const byId = new Map(events.map((event) => [String(event.eventId), event]));
  const ends = events.map(
    (event) => event.activityTaskFailedEventAttributes ?? event.activityTaskTimedOutEventAttributes,
  );
  // The last one: a create that was moved tried the same step on the hosts before.
  const end = ends.findLast((candidate) => {
    const scheduled = byId.get(String(candidate?.scheduledEventId))?.activityTaskScheduledEventAttributes;
    return scheduled?.activityType?.name === step;
  });
  if (!end) return null;
  return byId.get(String(end.startedEventId))?.activityTaskStartedEventAttributes?.attempt ?? 0;
}
