import { proxyActivities } from '@temporalio/workflow';

/** Steps one after the other on a queue of their own, as those of an operation on a host. */
export async function Probe(steps: number): Promise<number[]> {
  const { step } = proxyActivities<{ step(index: number): Promise<number> }>({
    taskQueue: 'host',
    startToCloseTimeout: '1 minute',
  });
  const done: number[] = [];
  for (let index = 0; index < steps; index++) done.push(await step(index));
  return done;
}
