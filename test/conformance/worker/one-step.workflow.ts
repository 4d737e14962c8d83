import { proxyActivities } from '@temporalio/workflow';

type Steps = Record<string, (input: unknown) => Promise<unknown>>;

/** One step of a host, tried once: what its worker does not finish fails. */
export async function OneStep(taskQueue: string, step: string, input: unknown): Promise<unknown> {
  const host = proxyActivities<Steps>({
    taskQueue,
    startToCloseTimeout: '1 minute',
    heartbeatTimeout: '20 seconds',
    retry: { maximumAttempts: 1 },
  });
  return host[step]?.(input);
}
