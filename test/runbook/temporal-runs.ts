import { Client, Connection } from '@temporalio/client';
import type { Tier } from '../support/e2e-tier.js';

export interface Run {
  workflowId: string;
  type: string;
  runId: string;
  /** `RUNNING`, `FAILED`, … */
  status: string;
}

/** Runs that Temporal lists for a query, newest first. */
export async function listRuns(tier: Tier, query: string): Promise<Run[]> {
  const connection = await Connection.connect({ address: tier.temporalAddress });
  try {
    const { workflow } = new Client({ connection, namespace: tier.temporalNamespace });
    const runs: Run[] = [];
    for await (const { workflowId, type, runId, status } of workflow.list({ query })) {
      runs.push({ workflowId, type, runId, status: status.name });
    }
    return runs;
  } finally {
    await connection.close();
  }
}

/** Asked of the run itself: lists lag behind. Undefined when the server does not know the workflow. */
export async function statusOf(tier: Tier, workflowId: string, runId?: string): Promise<string | undefined> {
  const connection = await Connection.connect({ address: tier.temporalAddress });
  try {
    const { workflow } = new Client({ connection, namespace: tier.temporalNamespace });
    return (await workflow.getHandle(workflowId, runId).describe()).status.name;
  } catch (error) {
    if ((error as Error).name === 'WorkflowNotFoundError') return undefined;
    throw error;
  } finally {
    await connection.close();
  }
}
