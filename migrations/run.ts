import { createMigrationDataSource } from './data-source.js';

/** Any number that nothing else in the database locks; two starts at once apply the migrations one after the other. */
const MIGRATION_LOCK = 7_867_767;

/** Exit code of sysexits.h for a wrong environment. */
const EX_CONFIG = 78;

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

/** What is wrong with the environment; null when nothing is. The value holds a password, so it is not repeated. */
function problemWith(url: string): string | null {
  if (url === '') return 'DATABASE_URL is not set';
  const known = URL.canParse(url) && ['postgres:', 'postgresql:'].includes(new URL(url).protocol);
  return known ? null : 'DATABASE_URL is wrong';
}

const url = process.env['DATABASE_URL'] ?? '';
const problem = problemWith(url);
if (problem !== null) {
  process.stderr.write(
    `migrations: the environment is not usable:\n  ${problem}: postgres://user:password@host:port/database\n`,
  );
  process.exitCode = EX_CONFIG;
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
