import { setTimeout as delay } from 'node:timers/promises';
import { Client, Connection, WorkflowNotFoundError } from '@temporalio/client';
import pg from 'pg';
import type { SandboxState } from '../../workflows/contract/states.js';

export interface SandboxRow {
  id: string;
  state: SandboxState;
  epoch: number;
  generation: number;
  timeout_seconds: number;
  failure: { code: string; step: string; message: string } | null;
}

/** An operation on a sandbox, or a build. */
export interface OperationRow {
  id: string;
  subject: string;
  kind: string;
  state: string;
  /** Why it was started; null where its kind says it all. */
  reason: string | null;
  failure: { code: string; step: string; message: string; needsAttention?: string[] } | null;
  finishedAt: number | null;
}

const AGAIN_MS = 100;
/** Postgres or Temporal may just be coming back. */
const PATIENCE_MS = 60_000;

const OPERATIONS = `
  SELECT id, sandbox_id AS subject, kind, state, reason, failure, (extract(epoch FROM finished_at) * 1000)::float8 AS "finishedAt"
  FROM operations WHERE sandbox_id = ANY($1)
  UNION ALL
  SELECT id, id, 'build', state, null, failure, (extract(epoch FROM finished_at) * 1000)::float8
  FROM template_builds WHERE id = ANY($1)`;

/** What database and Temporal say, read past the API. */
export class Records {
  readonly #pool: pg.Pool;

  private constructor(
    databaseUrl: string,
    readonly client: Client,
  ) {
    this.#pool = new pg.Pool({ connectionString: databaseUrl, max: 4 });
    // The server is killed now and then; the next question opens a new connection.
    this.#pool.on('error', () => undefined);
  }

  static async open(databaseUrl: string, temporalAddress: string): Promise<Records> {
    const connection = await Connection.connect({ address: temporalAddress });
    return new Records(databaseUrl, new Client({ connection }));
  }

  async close(): Promise<void> {
    await this.#pool.end();
    await this.client.connection.close();
  }

  query<T extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<T[]> {
    return patiently(async () => (await this.#pool.query<T>(text, values)).rows);
  }

  sandboxes(ids: readonly string[]): Promise<SandboxRow[]> {
    return this.query('SELECT * FROM sandboxes WHERE id = ANY($1)', [ids]);
  }

  /** Oldest first for each subject. */
  operations(subjects: readonly string[]): Promise<OperationRow[]> {
    return this.query(`SELECT * FROM (${OPERATIONS}) AS all_of_them ORDER BY "finishedAt" NULLS LAST`, [subjects]);
  }

  /** Whether a run of this workflow is open. */
  async isOpen(workflowId: string): Promise<boolean> {
    return patiently(async () => {
      try {
        const { status } = await this.client.workflow.getHandle(workflowId).describe();
        return status.name === 'RUNNING';
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return false;
        throw error;
      }
    });
  }

  /** Of the newest run, for a report of what went wrong. */
  async history(workflowId: string): Promise<unknown> {
    return this.client.workflow.getHandle(workflowId).fetchHistory();
  }
}

async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      // A question that is wrong stays wrong: class 42 of Postgres' errors.
      const wrong = error instanceof pg.DatabaseError && error.code?.startsWith('42') === true;
      if (wrong || Date.now() > deadline) throw error;
      await delay(AGAIN_MS);
    }
  }
}
