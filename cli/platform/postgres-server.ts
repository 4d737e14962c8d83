import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { CliError } from '../cli-error.js';
import { runCommand } from './command.js';
import { ensurePostgresBinaries, type PostgresBinaries } from './postgres-binaries.js';
import type { ServiceSpec } from './service.js';
import { DATABASE_USER, findUser, type SystemUser } from './system-users.js';

const ROLE = 'torpor';
const DATABASE = 'torpor';
const HOST = '127.0.0.1';

export interface PostgresOptions {
  cacheDir: string;
  directory: string;
  port: number;
  password: string;
}

/** The command line of the embedded server; its data directory is made when there is none. */
export async function preparePostgres(options: PostgresOptions): Promise<ServiceSpec> {
  const user = findUser(DATABASE_USER);
  if (user === undefined) {
    throw new CliError(`there is no user ${DATABASE_USER} to run Postgres`, {
      suggestion: 'run `torpor setup` as root',
    });
  }
  const binaries = await ensurePostgresBinaries(options.cacheDir);
  if (!existsSync(join(options.directory, 'PG_VERSION'))) await initialise(options, binaries, user);
  await checkVersion(options.directory, binaries);
  const settings = [
    `listen_addresses=${HOST}`,
    'unix_socket_directories=',
    'max_connections=100',
    // The ready line is looked for in English.
    'lc_messages=C',
    'logging_collector=off',
  ];
  return {
    name: 'postgres',
    argv: [
      binaries.postgres,
      '-D',
      options.directory,
      '-p',
      String(options.port),
      ...settings.flatMap((setting) => ['-c', setting]),
    ],
    env: { LC_ALL: 'C', PATH: '/usr/bin:/bin' },
    cwd: options.directory,
    runAs: user,
    // SIGINT is Postgres' fast shutdown: open transactions are rolled back, everything is flushed.
    stopSignal: 'SIGINT',
    stopMs: 30_000,
    readyMs: 300_000, // recovery after a crash
    readyLine: (line) => (line.includes('database system is ready to accept connections') ? {} : undefined),
  };
}

export function postgresUrl(port: number, password: string): string {
  return `postgres://${ROLE}:${encodeURIComponent(password)}@${HOST}:${port}/${DATABASE}`;
}

export async function ensureDatabase(port: number, password: string): Promise<void> {
  const client = new pg.Client({ host: HOST, port, user: ROLE, password, database: 'postgres' });
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
  } finally {
    await client.end();
  }
}

/** Made under another name first: a crash in the middle leaves nothing that looks like a database. */
async function initialise(
  { directory, password }: PostgresOptions,
  { initdb }: PostgresBinaries,
  user: SystemUser,
): Promise<void> {
  const staging = `${directory}.new`;
  const data = join(staging, 'data');
  const passwordFile = join(staging, 'password');
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(data, { recursive: true, mode: 0o700 });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  for (const path of [staging, data, passwordFile]) chownSync(path, user.uid, user.gid);
  await runCommand(
    [
      initdb,
      `--pgdata=${data}`,
      `--username=${ROLE}`,
      '--auth=scram-sha-256',
      `--pwfile=${passwordFile}`,
      '--encoding=UTF8',
      '--no-locale',
    ],
    { uid: user.uid, gid: user.gid, cwd: data, timeoutMs: 600_000 },
  );
  renameSync(data, directory);
  rmSync(staging, { recursive: true, force: true });
}

/** Data of another major version is not touched: its owner has to move it with pg_upgrade or a dump. */
async function checkVersion(directory: string, { postgres }: PostgresBinaries): Promise<void> {
  const data = readFileSync(join(directory, 'PG_VERSION'), 'utf8').trim();
  const { stdout } = await runCommand([postgres, '--version']);
  const program = /(\d+)\.\d+/.exec(stdout)?.[1];
  if (program === data) return;
  throw new CliError(`${directory} holds data of Postgres ${data}, and this torpor brings Postgres ${program}`, {
    suggestion: `dump it with the torpor that wrote it and load it again, or run Postgres ${data} yourself and name it in DATABASE_URL`,
  });
}
