import { readFile } from 'node:fs/promises';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import {
  settledDifference,
  snapshotMachine,
  type MachineDifference,
  type MachineOptions,
  type MachineSnapshot,
} from './leak-check.js';
import { neighbours, takenSlots } from './e2e-neighbours.js';
import { restartsFile, type Tier } from './e2e-tier.js';

/** Another pid of the same process, and the note that it ended. */
const RESTARTED = [/^process .*\/dist\/(api|host-worker)\//, /^process .* server start-dev /, /^process that ended /];

export interface LeakCheckOptions {
  /** Processes of the platform are killed on purpose, so others take their place. */
  restarts: boolean;
}

/** What the platform has on the machine, in Temporal and in the database, compared with an earlier look. */
export class LeakCheck {
  #before: MachineSnapshot | undefined;

  private constructor(
    private readonly tier: Tier,
    private readonly options: LeakCheckOptions,
    private readonly connection: Connection,
    private readonly database: pg.Client,
  ) {}

  static async open(tier: Tier, options: LeakCheckOptions): Promise<LeakCheck> {
    const connection = await Connection.connect({ address: tier.temporalAddress });
    const database = new pg.Client({ connectionString: tier.databaseUrl });
    await database.connect();
    const check = new LeakCheck(tier, options, connection, database);
    check.#before = await check.look();
    return check;
  }

  async close(): Promise<void> {
    await this.connection.close();
    await this.database.end();
  }

  async look(): Promise<MachineSnapshot> {
    return snapshotMachine(await this.#looked());
  }

  /** Since `before`, by default since this check was opened. */
  async difference(before = this.#before): Promise<MachineDifference> {
    if (!before) throw new Error('there is nothing to compare with');
    return settledDifference(before, await this.#looked());
  }

  async #looked(): Promise<MachineOptions> {
    const { hostDirectory, runDirectory, home } = this.tier;
    const ids = await this.#column('SELECT id FROM sandboxes UNION SELECT id FROM template_builds');
    const published = await this.#column(`SELECT id FROM template_builds WHERE state = 'ready'`);
    return {
      directories: [hostDirectory, runDirectory],
      marks: [home],
      ignore: [
        ...neighbours(this.tier, ids),
        // One for each connection of somebody's pool.
        /^process .*: postgres: /,
        // Journals outlive their sandboxes for a day, so that steps that come late are refused.
        new RegExp(`^file ${hostDirectory}/journal/`),
        // What was asked for: nothing deletes a template yet.
        ...published.map((id) => new RegExp(`^file ${hostDirectory}/templates/${id}(/|$)`)),
        // A watch lives as long as its host is known, a reconciliation comes every minute.
        /^open workflow (HostWatch host-watch\/|Reconcile reconcile)/,
        ...(this.options.restarts ? RESTARTED : []),
      ],
      also: {
        'address slot': () => takenSlots(this.tier),
        'open workflow': () => this.#openWorkflows(),
        'sandbox that is not stopped': () => this.#column(`SELECT id FROM sandboxes WHERE state <> 'stopped'`),
        'open operation': () => this.#column(`SELECT id FROM operations WHERE state = 'running'`),
        'running build': () => this.#column(`SELECT id FROM template_builds WHERE state = 'running'`),
        secret: () => this.#column('SELECT id FROM sandbox_secrets'),
        'process that ended': () => readRestarts(this.tier.home),
      },
    };
  }

  async #column(query: string): Promise<string[]> {
    return (await this.database.query<{ id: string }>(query)).rows.map(({ id }) => id);
  }

  async #openWorkflows(): Promise<string[]> {
    const { workflow } = new Client({ connection: this.connection, namespace: this.tier.temporalNamespace });
    const open: string[] = [];
    for await (const { type, workflowId } of workflow.list({ query: 'ExecutionStatus = "Running"' })) {
      open.push(`${type} ${workflowId}`);
    }
    return open;
  }
}

/** Numbered: the same process may end in the same way twice. */
async function readRestarts(home: string): Promise<string[]> {
  const text = await readFile(restartsFile(home), 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return '';
    throw err;
  });
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line, index) => `${index + 1}: ${line}`);
}
