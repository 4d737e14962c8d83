import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { Tier } from '../support/e2e-tier.js';
import { processOf, succeeded } from '../support/e2e-processes.js';

export interface Backup {
  restore(): Promise<void>;
  remove(): Promise<void>;
}

/** The server's data and its write-ahead log. The third file, its index of the log, is made anew. */
const FILES = ['temporal.db', 'temporal.db-wal'];

/** Temporal's files while its process stands still: what a crash at this instant would leave, from which it recovers. */
export async function backUpTemporal(tier: Tier): Promise<Backup> {
  const data = join(tier.home, 'temporal');
  const kept = await mkdtemp(join(tmpdir(), 'torpor-runbook-temporal-'));
  const { pid } = await processOf(tier, 'temporal');
  process.kill(pid, 'SIGSTOP');
  try {
    for (const name of FILES) await cp(join(data, name), join(kept, name));
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  return {
    // The running server keeps the files that it has open, whatever their names lead to; the next one reads these.
    restore: async () => {
      const server = await processOf(tier, 'temporal');
      process.kill(server.pid, 'SIGSTOP');
      for (const name of [...FILES, 'temporal.db-shm']) await rm(join(data, name), { force: true });
      for (const name of FILES) await cp(join(kept, name), join(data, name));
      process.kill(server.pid, 'SIGKILL');
      await succeeded(tier, 'temporal', server);
    },
    remove: () => rm(kept, { recursive: true, force: true }),
  };
}

/** All rows, as a dump has them, kept beside the database's own tables and put back in one transaction. */
export async function backUpDatabase(tier: Tier): Promise<Backup> {
  const kept = 'runbook_backup';
  const tables = await inDatabase(tier, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      `SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'`,
    );
    await client.query(`BEGIN ISOLATION LEVEL REPEATABLE READ`);
    await client.query(`CREATE SCHEMA ${kept}`);
    for (const { name } of rows) await client.query(`CREATE TABLE ${kept}."${name}" AS TABLE public."${name}"`);
    await client.query('COMMIT');
    return rows.map(({ name }) => `"${name}"`);
  });
  return {
    restore: () =>
      inDatabase(tier, async (client) => {
        await client.query('BEGIN');
        // Neither keys between tables nor triggers that guard append-only ones apply to a restore.
        await client.query(`SET LOCAL session_replication_role = replica`);
        await client.query(`TRUNCATE ${tables.map((name) => `public.${name}`).join(', ')}`);
        for (const name of tables) {
          await client.query(`INSERT INTO public.${name} OVERRIDING SYSTEM VALUE SELECT * FROM ${kept}.${name}`);
        }
        await client.query('COMMIT');
      }),
    remove: () => inDatabase(tier, (client) => client.query(`DROP SCHEMA ${kept} CASCADE`)).then(() => undefined),
  };
}

export async function inDatabase<T>(tier: Tier, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: tier.databaseUrl });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
