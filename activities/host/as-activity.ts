import { Context } from '@temporalio/activity';

/** Half of the shortest heartbeat timeout in use would do; this leaves room for a busy machine. */
const HEARTBEAT_MS = 2_000;

/** The part of a structured logger that steps use. */
export interface StepLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface ActivityOptions {
  log: StepLog;
  heartbeatMs?: number | undefined;
}

/** Heartbeats while `work` is done, and tells a cancellation to Temporal in its own words. */
export async function asActivity<T>(
  { log, heartbeatMs = HEARTBEAT_MS }: ActivityOptions,
  work: (signal: AbortSignal | undefined) => Promise<T>,
): Promise<T> {
  const context = currentActivity();
  if (!context) return work(undefined);
  const beat = setInterval(() => context.heartbeat(), heartbeatMs);
  context.heartbeat();
  try {
    return await work(context.cancellationSignal);
  } catch (err) {
    // Drivers end with an abort error of their own; Temporal knows a cancellation by its own error only.
    const { aborted, reason } = context.cancellationSignal;
    if (!aborted) throw err;
    if (err !== reason) log.warn({ err, activity: context.info.activityType }, 'step ended on cancellation');
    throw reason;
  } finally {
    clearInterval(beat);
  }
}

/** Undefined when a step is called directly, as benches and tests do. */
function currentActivity(): Context | undefined {
  try {
    return Context.current();
  } catch {
    return undefined;
  }
}
