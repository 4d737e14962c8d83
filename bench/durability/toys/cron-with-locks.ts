import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import type { GuestRun } from '../../../activities/host/ports.js';
import type { HostCalls } from './host-calls.js';
import { CRON_SCHEMA, RowLocks } from './row-locks.js';
import { newId, STATUS, ToyError, type Toy, type ToySandbox } from './toy.js';

const TICK_MS = 1_000;
const ANSWER_POLL_MS = 50;
const PAGE = 100;
/** Of one job; a process that died holds its locks until then. */
const LOCK_SECONDS = 10;
/** A job that is older is failed. */
const STALE_SECONDS = 60;
const ATTEMPTS = 2;

type State = ToySandbox['state'];
type Verb = 'creating' | 'pausing' | 'resuming' | 'destroying';

interface Row extends ToySandbox {
  token: string;
  generation: number;
  attempts: number;
}

/**
 * The orchestrator of desired states: a request writes a row, and a cron per state, every second, takes a lock with an
 * expiry on each of a page of rows and does the work; a row that is on its way for too long is failed by a timer. The
 * shape is described of a control plane with dozens of crons over Postgres whose locks are `SET … NX EX`, and whose
 * unlock deletes the lock without asking whose it is. Locks expire and jobs go stale sooner here than there, where it
 * takes minutes, so that a row that was left behind is taken up again within the time that the bench waits.
 *
 * As described, the work of a process that died is begun again from its beginning. The careful one, which is described
 * nowhere, looks how far it came: so much can be had from this shape by somebody who thinks of every half-done state.
 */
export class CronWithLocks implements Toy {
  private constructor(
    private readonly calls: HostCalls,
    private readonly pool: pg.Pool,
    private readonly locks: RowLocks,
    private readonly log: Logger,
    private readonly careful: boolean,
  ) {}

  static async open(calls: HostCalls, databaseUrl: string, log: Logger, careful: boolean): Promise<CronWithLocks> {
    const pool = new pg.Pool({ connectionString: databaseUrl, max: 20 });
    await pool.query(CRON_SCHEMA);
    return new CronWithLocks(calls, pool, new RowLocks(pool, LOCK_SECONDS), log, careful);
  }

  startCrons(): void {
    for (const verb of ['creating', 'pausing', 'resuming', 'destroying'] as const) {
      this.#every(() => this.#tick(verb));
    }
    this.#every(() => this.#pauseIdle());
    this.#every(() => this.#failStale());
  }

  async create(name: string, timeoutSeconds: number): Promise<ToySandbox> {
    const values = [newId(name), name, randomBytes(16).toString('hex'), timeoutSeconds];
    await this.pool.query(
      `INSERT INTO sandboxes (id, name, state, token, timeout_seconds) VALUES ($1, $2, 'creating', $3, $4)
       ON CONFLICT (name) DO NOTHING`,
      values,
    );
    const { rows } = await this.pool.query<{ id: string }>('SELECT id FROM sandboxes WHERE name = $1', [name]);
    return this.#settled(rows[0]?.id ?? '');
  }

  pause(id: string): Promise<ToySandbox> {
    return this.#ask(id, 'running', 'pausing', 'paused');
  }

  resume(id: string): Promise<ToySandbox> {
    return this.#ask(id, 'paused', 'resuming', 'running');
  }

  async destroy(id: string): Promise<void> {
    await this.#set(id, `state = 'destroying', since = now(), attempts = 0`);
    for (;;) {
      const row = await this.#find(id).catch(() => undefined);
      if (row === undefined) return;
      if (row.state === 'error') throw new ToyError(STATUS.failed, row.error ?? 'destroying failed', id);
      await delay(ANSWER_POLL_MS);
    }
  }

  async exec(id: string, command: string): Promise<GuestRun> {
    const row = await this.get(id);
    if (row.state !== 'running') throw new ToyError(STATUS.conflict, `${id} is ${row.state}, not running`);
    await this.#set(id, 'active_at = now()');
    return this.calls.exec(id, (await this.#find(id)).token, command);
  }

  get(id: string): Promise<ToySandbox> {
    return this.#find(id);
  }

  async list(): Promise<ToySandbox[]> {
    return (await this.pool.query<Row>('SELECT * FROM sandboxes')).rows;
  }

  /** Takes what is in this state and unlocked; others of the page go on while one works. */
  async #tick(verb: Verb): Promise<void> {
    const page = 'SELECT * FROM sandboxes WHERE state = $1 ORDER BY since LIMIT $2';
    const { rows } = await this.pool.query<Row>(page, [verb, PAGE]);
    await Promise.all(rows.map((row) => this.locks.holding(row.id, () => this.#work(verb, row.id))));
  }

  async #work(verb: Verb, id: string): Promise<void> {
    // Between the page and the lock somebody else may have done it.
    const row = await this.#find(id);
    if (row.state !== verb) return;
    try {
      await this.#steps[verb](row);
    } catch (err) {
      if (row.attempts + 1 < ATTEMPTS) return this.#set(row.id, 'attempts = attempts + 1');
      const back = await this.#turnBack(verb, row.id).catch((undo: unknown) => {
        this.log.warn({ err: undo, id: row.id }, 'clean-up failed');
        return 'error';
      });
      await this.#set(row.id, `state = '${back}', error = $2`, [String(err)]);
    }
  }

  /** Each may be done a second time by who finds it half done. */
  readonly #steps: Record<Verb, (row: Row) => Promise<void>> = {
    creating: async ({ id, token }) => {
      await this.calls.makeNetworkAndDisk(id);
      await this.calls.start(id);
      await this.calls.initGuest(id, token);
      await this.#set(id, `state = 'running', active_at = now()`);
    },
    pausing: async ({ id, generation }) => {
      if (!this.careful || !(await this.#isSaved(id, generation + 1))) {
        await this.calls.saveMemory(id, generation + 1);
      }
      await this.calls.release(id);
      await this.#set(id, `state = 'paused', generation = $2`, [generation + 1]);
    },
    resuming: async ({ id, token, generation }) => {
      if (!this.careful || (await this.calls.ports.hypervisor.status(id)) !== 'running') {
        await this.calls.openNetworkAndDisk(id);
        await this.calls.start(id, generation);
      }
      await this.calls.initGuest(id, token);
      await this.calls.forgetMemory(id, generation);
      await this.#set(id, `state = 'running', timeout_seconds = 0, active_at = now()`);
    },
    destroying: async ({ id }) => {
      await this.calls.removeAll(id);
      await this.pool.query('DELETE FROM sandboxes WHERE id = $1', [id]);
    },
  };

  /** One that stands still since its process died must go on before it can be asked to get ready again. */
  async #isSaved(id: string, generation: number): Promise<boolean> {
    const { snapshots, hypervisor } = this.calls.ports;
    if ((await snapshots.generations(id)).includes(generation)) return true;
    if ((await hypervisor.status(id)) === 'frozen') await hypervisor.unfreeze(id);
    return false;
  }

  /** Returns what the sandbox is then. */
  async #turnBack(verb: Verb, id: string): Promise<State> {
    if (verb === 'creating') await this.calls.removeAll(id);
    if (verb === 'pausing') await this.calls.letGoOn(id);
    if (verb === 'resuming') await this.calls.undoResume(id);
    return ({ creating: 'error', pausing: 'running', resuming: 'paused', destroying: 'error' } as const)[verb];
  }

  async #pauseIdle(): Promise<void> {
    await this.pool.query(
      `UPDATE sandboxes SET state = 'pausing', since = now(), attempts = 0
       WHERE state = 'running' AND timeout_seconds > 0 AND active_at < now() - timeout_seconds * interval '1 second'`,
    );
  }

  async #failStale(): Promise<void> {
    await this.pool.query(
      `UPDATE sandboxes SET state = 'error', error = state || ' for too long'
       WHERE state LIKE '%ing' AND state <> 'running' AND since < now() - $1 * interval '1 second'`,
      [STALE_SECONDS],
    );
  }

  async #ask(id: string, from: State, verb: Verb, to: State): Promise<ToySandbox> {
    const { rowCount } = await this.pool.query(
      `UPDATE sandboxes SET state = $3, since = now(), attempts = 0, error = NULL WHERE id = $1 AND state = $2`,
      [id, from, verb],
    );
    if (rowCount === 1) {
      const row = await this.#settled(id);
      if (row.state === to) return row;
      throw new ToyError(STATUS.failed, row.error ?? `it is ${row.state}`, id);
    }
    throw new ToyError(STATUS.conflict, `${id} is ${(await this.#find(id)).state}, not ${from}`);
  }

  async #settled(id: string): Promise<ToySandbox> {
    for (;;) {
      const row = await this.#find(id);
      if (row.state === 'running' || row.state === 'paused') return row;
      if (row.state === 'error') throw new ToyError(STATUS.failed, row.error ?? 'it failed', id);
      await delay(ANSWER_POLL_MS);
    }
  }

  async #set(id: string, what: string, values: unknown[] = []): Promise<void> {
    await this.pool.query(`UPDATE sandboxes SET ${what} WHERE id = $1`, [id, ...values]);
  }

  async #find(id: string): Promise<Row> {
    const { rows } = await this.pool.query<Row>('SELECT * FROM sandboxes WHERE id = $1', [id]);
    if (rows[0] === undefined) throw new ToyError(STATUS.notFound, `there is no sandbox ${id}`);
    return rows[0];
  }

  /** A tick does not wait for the one before it: the locks keep them apart. */
  #every(work: () => Promise<void>): void {
    setInterval(() => void work().catch((err: unknown) => this.log.warn({ err }, 'a tick failed')), TICK_MS);
  }
}
