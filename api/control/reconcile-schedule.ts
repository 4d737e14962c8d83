import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { Client, ScheduleAlreadyRunning, type ScheduleOptions } from '@temporalio/client';
import { CONTROL_QUEUE, RECONCILE_SCHEDULE_ID } from '../../workflows/contract/ids.js';
import { RECONCILE_WORKFLOW, type ReconcileInput } from '../../workflows/contract/operations.js';
import { STAGE } from '../../workflows/contract/search-attributes.js';
import { CONFIG, type Config } from '../config.js';
import { createLogger } from '../log.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';

/** Temporal may have been restored from a backup that is older than the schedule. */
const LOOK_EVERY_MS = 5 * 60_000;
const RETRY_MS = 5_000;
const INPUT: ReconcileInput = { dryRun: false, removeUnknown: false };

/** Sees to it that rows, runs and hosts are compared at regular intervals, as long as a control worker runs. */
@Injectable()
export class ReconcileSchedule implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly log;
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;
  private current = false;

  constructor(
    private readonly client: Client,
    private readonly calls: TemporalCalls,
    @Inject(CONFIG) private readonly config: Config,
  ) {
    this.log = createLogger(config.logLevel, 'control-worker');
  }

  /** Not waited for: a worker that cannot do this yet can still do everything else. */
  onApplicationBootstrap(): void {
    void this.keep();
  }

  onApplicationShutdown(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  private async keep(): Promise<void> {
    const ok = await this.ensure().then(
      () => true,
      (err: unknown) => {
        if (!this.stopped) this.log.warn({ err }, 'the schedule of reconciliations could not be made; tried again');
        return false;
      },
    );
    if (!this.stopped) this.timer = setTimeout(() => void this.keep(), ok ? LOOK_EVERY_MS : RETRY_MS).unref();
  }

  /** It exists afterwards and, as far as this process can know, is what this configuration says. */
  async ensure(): Promise<void> {
    const options = this.options();
    try {
      await this.calls.brief(() => this.client.schedule.create(options));
    } catch (error) {
      if (!(error instanceof ScheduleAlreadyRunning)) throw error;
      // One that an operator has paused stays paused.
      const { spec, action, policies } = options;
      const schedule = this.client.schedule.getHandle(RECONCILE_SCHEDULE_ID);
      if (!this.current) {
        await this.calls.brief(() =>
          schedule.update(({ state }) => ({ spec, action, policies: policies ?? {}, state })),
        );
      }
    }
    this.current = true;
  }

  private options() {
    const { reconcileSeconds } = this.config;
    return {
      scheduleId: RECONCILE_SCHEDULE_ID,
      spec: { intervals: [{ every: `${reconcileSeconds}s` }], jitter: `${Math.min(5, reconcileSeconds / 10)}s` },
      policies: { overlap: 'SKIP', catchupWindow: '1 minute' },
      action: {
        type: 'startWorkflow',
        workflowType: RECONCILE_WORKFLOW,
        workflowId: RECONCILE_SCHEDULE_ID,
        taskQueue: CONTROL_QUEUE,
        args: [INPUT],
        typedSearchAttributes: [{ key: STAGE, value: 'reconcile' }],
      },
      typedSearchAttributes: [{ key: STAGE, value: 'reconcile' }],
    } satisfies ScheduleOptions;
  }
}
