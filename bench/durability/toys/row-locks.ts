import type pg from 'pg';

export const CRON_SCHEMA = `
  CREATE TABLE IF NOT EXISTS sandboxes (
    id text PRIMARY KEY,
    name text NOT NULL UNIQUE,
    state text NOT NULL,
    token text NOT NULL,
    generation integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    timeout_seconds integer NOT NULL,
    active_at timestamptz NOT NULL DEFAULT now(),
    since timestamptz NOT NULL DEFAULT now(),
    error text
  );
  CREATE TABLE IF NOT EXISTS locks (key text PRIMARY KEY, expires_at timestamptz NOT NULL);`;

/** Locks as of `SET key NX EX seconds`: taken when there is none or when it has expired. */
export class RowLocks {
  constructor(
    private readonly pool: pg.Pool,
    private readonly seconds: number,
  ) {}

  /** Does nothing when somebody else holds it. */
  async holding(key: string, work: () => Promise<void>): Promise<void> {
    if (!(await this.#take(key))) return;
    try {
      await work();
    } finally {
      // Whose it is by now is not asked, as in the model.
      await this.pool.query('DELETE FROM locks WHERE key = $1', [key]);
    }
  }

  async #take(key: string): Promise<boolean> {
    const { rowCount } = await this.pool.query(
      `INSERT INTO locks (key, expires_at) VALUES ($1, now() + $2 * interval '1 second')
       ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at WHERE locks.expires_at < now()`,
      [key, this.seconds],
    );
    return rowCount === 1;
  }
}
