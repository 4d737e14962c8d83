import {
  ActivityFailure,
  ApplicationFailure,
  log,
  proxyActivities,
  sleep,
  type ActivityInterfaceFor,
} from '@temporalio/workflow';
import type { HostActivities, StepInput } from '../activities/host/contract.js';
import { hostQueue } from './contract/ids.js';
import type { Timing } from './contract/operations.js';

type StepName = keyof HostActivities;
type Extra<K extends StepName> = Omit<Parameters<HostActivities[K]>[0], keyof StepInput> & { last?: boolean };
type Result<K extends StepName> = Awaited<ReturnType<HostActivities[K]>>;

/** One line per step, shown beside it in the Temporal UI. */
const SUMMARIES: Record<StepName, string> = {
  setUpNetwork: 'Create namespace, veth, tap and addresses',
  applyNetworkPolicy: 'Change what the guest may send',
  restoreNetworkPolicy: 'Let the guest send what it might before',
  releaseNetwork: 'Remove namespace, veth, tap and addresses',
  attachDisk: 'Lay a copy-on-write disk over its base, or open the existing one',
  detachDisk: 'Flush and detach the disk',
  startVm: 'Start the VM: restore its memory or boot',
  killVm: 'End the VM process and wait until it is gone',
  initGuest: 'Wait for the agent; set clock, entropy, identity, environment',
  quiesceGuest: 'Sync, trim and drop caches in the guest',
  unquiesceGuest: 'Let the guest go on',
  snapshotVm: 'Freeze the VM and write its memory durably',
  unfreezeVm: 'Let the frozen VM run again',
  deleteSnapshot: 'Delete an unfinished memory snapshot',
  forgetPausedState: 'Delete the memory snapshot that was resumed from',
  inspectSandbox: 'Look at what the host has of the sandbox',
  clearVm: 'End what is left of the VM and settle what of the disk counts',
  deleteFiles: 'Delete everything the sandbox has on the host',
  closeEpoch: 'Refuse what may still be on its way from this operation',
  runSetupCommand: 'Run a set-up command in the guest',
  publishBuild: 'Save memory and disk as a template',
  deleteBuild: 'Delete an unfinished template',
};

const LONG: ReadonlySet<StepName> = new Set([
  'startVm',
  'initGuest',
  'quiesceGuest',
  'snapshotVm',
  // Waits for the end of a restore on demand.
  'forgetPausedState',
  'inspectSandbox',
  'clearVm',
  'deleteFiles',
  'runSetupCommand',
  'publishBuild',
]);

/**
 * The steps of one operation on one host. Each waits for its cancellation to be
 * carried out, because an undo must not race a step that still runs. No other
 * worker serves the host's queue.
 */
export class HostSteps {
  private readonly tries: ActivityInterfaceFor<HostActivities>;
  private readonly undos: ActivityInterfaceFor<HostActivities>;
  private readonly forwards: ActivityInterfaceFor<HostActivities>;

  constructor(
    hostId: string,
    private readonly ref: { sandboxId: string; epoch: number; opId: string },
    private readonly timing: Timing,
  ) {
    const common = {
      taskQueue: hostQueue(hostId),
      heartbeatTimeout: timing.heartbeatMs,
      startToCloseTimeout: timing.stepMs,
      cancellationType: 'WAIT_CANCELLATION_COMPLETED',
    } as const;
    const retry = { initialInterval: timing.retryInitialMs, backoffCoefficient: 2 };
    this.tries = proxyActivities<HostActivities>({
      ...common,
      scheduleToStartTimeout: timing.hostPickupMs,
      retry: { ...retry, maximumAttempts: timing.stepAttempts },
    });
    // Undo and forward steps wait for a host that is away: what it holds is still there.
    this.undos = proxyActivities<HostActivities>({
      ...common,
      scheduleToCloseTimeout: timing.undoMs,
      retry: { ...retry, maximumInterval: timing.forwardRetryMaxMs },
    });
    this.forwards = proxyActivities<HostActivities>({
      ...common,
      retry: { ...retry, maximumInterval: timing.forwardRetryMaxMs },
    });
  }

  /** A step that may fail: a few attempts, then the operation turns back. */
  step<K extends StepName>(name: K, extra: Extra<K>): Promise<Result<K>> {
    return this.call(this.tries, name, extra);
  }

  /** A step that takes back another one; retried for long, then somebody must look. */
  undo<K extends StepName>(name: K, extra: Extra<K>): Promise<Result<K>> {
    return this.call(this.undos, name, extra);
  }

  /**
   * A step behind the commit point: retried without limit, slowly, visibly. Here even
   * a failure that no retry can mend by itself is waited out, because somebody can
   * mend it (a full disk, a missing binary) and there is no way back.
   */
  async forward<K extends StepName>(name: K, extra: Extra<K>): Promise<Result<K>> {
    for (;;) {
      try {
        return await this.call(this.forwards, name, extra);
      } catch (err) {
        if (!isMendable(err)) throw err;
        log.error('a step that can only go forward failed', { step: name, message: err.cause.message });
        await sleep(this.timing.forwardRetryMaxMs, { summary: `until ${name} is tried again` });
      }
    }
  }

  private call<K extends StepName>(
    activities: ActivityInterfaceFor<HostActivities>,
    name: K,
    extra: Extra<K>,
  ): Promise<Result<K>> {
    // The contract ties each name to its input and result; the compiler cannot follow that through an index.
    const activity = activities[name] as unknown as {
      executeWithOptions(options: object, args: [StepInput & Extra<K>]): Promise<Result<K>>;
    };
    const options = {
      activityId: name,
      summary: SUMMARIES[name],
      ...(LONG.has(name) ? { startToCloseTimeout: this.timing.longStepMs } : {}),
    };
    return activity.executeWithOptions(options, [{ ...this.ref, ...extra }]);
  }
}

function isMendable(err: unknown): err is ActivityFailure & { cause: ApplicationFailure } {
  return (
    err instanceof ActivityFailure && err.cause instanceof ApplicationFailure && err.cause.type !== 'stale_operation'
  );
}
