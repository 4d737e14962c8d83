import { TestWorkflowEnvironment } from '@temporalio/testing';
import { readConfig } from '../../cli/config.js';
import { ensureTemporal } from '../../cli/platform/temporal-binary.js';
import { startDatabase, type TestDatabase } from '../db/database.js';
import { Lab } from './lab.js';

const DATABASE = 'installed';

/** Postgres and Temporal of an operator, on machines that nobody installs anything of ours on: empty, and outside the lab. */
export class OutsideServers {
  private constructor(
    private readonly database: TestDatabase,
    private readonly temporal: TestWorkflowEnvironment,
  ) {}

  static async start(): Promise<OutsideServers> {
    const { path } = await ensureTemporal(readConfig(), () => undefined);
    const server = { executable: { type: 'existing-path', path } } as const;
    const temporal = await TestWorkflowEnvironment.createLocal({ server });
    try {
      const database = await startDatabase();
      await database.dataSource.query(`CREATE DATABASE ${DATABASE}`);
      return new OutsideServers(database, temporal);
    } catch (error) {
      await temporal.teardown();
      throw error;
    }
  }

  /** As the lab reaches them. */
  get databaseUrl(): string {
    const url = new URL(this.database.url);
    url.hostname = Lab.OUTSIDE;
    url.pathname = `/${DATABASE}`;
    return url.href;
  }

  get temporalAddress(): string {
    return `${Lab.OUTSIDE}:${this.temporal.address.split(':').at(-1) ?? ''}`;
  }

  async stop(): Promise<void> {
    await this.temporal.teardown();
    await this.database.stop();
  }
}
