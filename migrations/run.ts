import { createMigrationDataSource } from './data-source.js';

/** Any number that nothing else in the database locks; two starts at once apply the migrations one after the other. */
const MIGRATION_LOCK = 7_867_767;

async function applyMigrations(url: string): Promise<string[]> {
  const dataSource = createMigrationDataSource(url);
  await dataSource.initialize();
  const lock = dataSource.createQueryRunner();
  try {
    await lock.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    const applied = await dataSource.runMigrations();
    return applied.map((migration) => migration.name);
  } finally {
    // Ends the session that holds the lock, and the lock with it.
    await lock.release();
    await dataSource.destroy();
  }
}

const url = process.env['DATABASE_URL'];
if (url === undefined || url === '') {
  process.stderr.write(
    'DATABASE_URL is not set; example: DATABASE_URL=postgres://user:password@127.0.0.1:5432/torpor\n',
  );
  process.exitCode = 2;
} else {
  try {
    const applied = await applyMigrations(url);
    for (const name of applied) process.stdout.write(`applied ${name}\n`);
    process.stdout.write(applied.length === 0 ? 'schema is up to date\n' : `${applied.length} applied\n`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    process.stderr.write(`migrations failed, nothing of the failed one was kept: ${why}\n`);
    process.exitCode = 1;
  }
}
