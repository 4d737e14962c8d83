import { Client, WorkflowNotFoundError } from '@temporalio/client';
import { sandboxWorkflowId, ttlWorkflowId } from '../../workflows/contract/ids.js';
import { connectTemporal, type TemporalTarget } from '../platform/temporal-connection.js';

/** Workflows of a sandbox that have not ended, asked of the server itself. */
export async function openWorkflows(target: TemporalTarget, sandboxId: string): Promise<string[]> {
  const connection = await connectTemporal(target);
  try {
    const client = new Client({ connection, namespace: target.namespace });
    const open: string[] = [];
    for (const workflowId of [sandboxWorkflowId(sandboxId), ttlWorkflowId(sandboxId)]) {
      try {
        const { status, type } = await client.workflow.getHandle(workflowId).describe();
        if (status.name === 'RUNNING') open.push(`${type} ${workflowId}`);
      } catch (error) {
        if (!(error instanceof WorkflowNotFoundError)) throw error;
      }
    }
    return open;
  } finally {
    await connection.close();
  }
}
