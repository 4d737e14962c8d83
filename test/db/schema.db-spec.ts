import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createMigrationDataSource } from '../../migrations/data-source.js';
import { startDatabase, type TestDatabase } from './database.js';

describe('schema', () => {
  let database: TestDatabase;

  beforeAll(async () => {
    database = await startDatabase();
  });
  afterAll(() => database.stop());

  it('is the same in migrations and entities', async () => {
    const log = await database.dataSource.driver.createSchemaBuilder().log();
    expect(log.upQueries.map(({ query }) => query)).toEqual([]);
  });

  it('is noticed when it differs', async () => {
    await database.dataSource.query('ALTER TABLE users ADD COLUMN forgotten text');
    const log = await database.dataSource.driver.createSchemaBuilder().log();
    expect(log.upQueries.map(({ query }) => query)).toEqual(['ALTER TABLE "users" DROP COLUMN "forgotten"']);
    await database.dataSource.query('ALTER TABLE users DROP COLUMN forgotten');
  });

  it('keeps events: they can neither be changed nor deleted', async () => {
    const { dataSource } = database;
    await dataSource.query(`INSERT INTO sandboxes
      (id, team_id, template_id, state, epoch, version, vcpus, memory_mb, timeout_seconds, on_timeout, egress, cold, metadata)
      VALUES ('s', 'platform', 'minimal', 'error', 1, 1, 1, 128, 0, 'pause', true, false, '{}')`);
    await dataSource.query(
      `INSERT INTO sandbox_events (sandbox_id, team_id, type, data) VALUES ('s', 'platform', 't', '{}')`,
    );
    await expect(dataSource.query(`UPDATE sandbox_events SET type = 'x'`)).rejects.toThrow('append-only');
    await expect(dataSource.query(`DELETE FROM sandbox_events`)).rejects.toThrow('append-only');
  });

  it('refuses a state that the table of states does not know', async () => {
    await expect(database.dataSource.query(`UPDATE sandboxes SET state = 'asleep'`)).rejects.toThrow(
      'sandboxes_state_check',
    );
  });

  it('can be taken back and applied again', async () => {
    const migrations = await createMigrationDataSource(database.url).initialize();
    try {
      for (const _ of migrations.migrations) await migrations.undoLastMigration();
      const left = await migrations.query<unknown[]>(
        `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations'`,
      );
      expect(left).toEqual([]);
      await migrations.runMigrations();
    } finally {
      await migrations.destroy();
    }
  });
});
