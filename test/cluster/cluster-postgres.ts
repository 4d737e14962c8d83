import { randomBytes } from 'node:crypto';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readConfig } from '../../cli/config.js';
import { freePorts } from '../../cli/platform/ports.js';
import { preparePostgres } from '../../cli/platform/postgres-server.js';
import { RotatingLog } from '../../cli/platform/rotating-log.js';
import { Service } from '../../cli/platform/service.js';
import { DATABASE_USER, ensureSystemUser } from '../../cli/platform/system-users.js';
import type { ClusterOptions } from './cluster-temporal.js';

export interface ClusterPostgres {
  /** For startClusterTemporal. */
  access: ClusterOptions['postgres'];
  pid: number;
  stop(): Promise<void>;
}

/**
 * A Postgres server for a cluster alone, as in docker-compose.temporal.yml, where the platform's
 * database is another one. All folders above `directory` must let the user of Postgres through.
 */
export async function startClusterPostgres(directory: string): Promise<ClusterPostgres> {
  await ensureSystemUser(DATABASE_USER);
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o755);
  const [port = 0] = await freePorts(1);
  const password = randomBytes(16).toString('hex');
  const { cacheDir } = readConfig();
  const spec = await preparePostgres({ cacheDir, directory: join(directory, 'data'), port, password });
  const log = new RotatingLog(join(directory, 'postgres.log'));
  const service = new Service(spec, log);
  try {
    await service.ready();
  } catch (error) {
    await service.stop();
    throw error;
  }
  const { pid } = service;
  if (pid === undefined) throw new Error(`Postgres has no pid; read ${log.file}`);
  return {
    access: { host: '127.0.0.1', port, user: 'torpor', password },
    pid,
    async stop() {
      await service.stop();
      log.close();
    },
  };
}
