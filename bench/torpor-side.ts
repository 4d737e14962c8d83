import { Client } from '@temporalio/client';
import type { Credentials } from '../cli/config.js';
import { connectTemporal } from '../cli/platform/temporal-connection.js';
import { sandboxWorkflowId } from '../workflows/contract/ids.js';
import type { Size } from './direct-host.js';

/** The same work asked of the platform, as a caller would: REST with `?wait=true`. */
export class TorporSide {
  constructor(
    private readonly credentials: Credentials,
    private readonly size: Size,
  ) {}

  async create({ cold = false } = {}): Promise<string> {
    const { vcpus, memoryMb } = this.size;
    const body = { template: 'minimal', vcpus, memory_mb: memoryMb, cold };
    const { id } = (await this.ask('POST', '/v1/sandboxes?wait=true', body)) as { id: string };
    return id;
  }

  async pause(id: string): Promise<void> {
    await this.ask('POST', `/v1/sandboxes/${id}/pause?wait=true`);
  }

  async resume(id: string): Promise<void> {
    await this.ask('POST', `/v1/sandboxes/${id}/resume?wait=true`);
  }

  async destroy(id: string): Promise<void> {
    await this.ask('DELETE', `/v1/sandboxes/${id}?wait=true`);
  }

  async exec(id: string, command: string): Promise<void> {
    await this.ask('POST', `/v1/sandboxes/${id}/exec`, { command });
  }

  /** Events in the history of the sandbox's newest operation, once it has ended. */
  async historyEvents(id: string): Promise<number> {
    const { temporal_address: address, temporal_namespace: namespace } = this.credentials;
    const connection = await connectTemporal({ address, namespace });
    try {
      const handle = new Client({ connection, namespace }).workflow.getHandle(sandboxWorkflowId(id));
      // The row tells the caller before the run has cleaned up behind itself.
      await handle.result();
      return (await handle.describe()).historyLength;
    } finally {
      await connection.close();
    }
  }

  private async ask(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(`${this.credentials.api_url}${path}`, {
      method,
      headers: { 'X-API-Key': this.credentials.api_key, ...(body ? { 'Content-Type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const answer: unknown = await response.json();
    // 202 would mean that the platform gave up waiting, and the time would be a wrong one.
    if (!response.ok || response.status === 202)
      throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
    return answer;
  }
}
