import type { MigrationInterface, QueryRunner } from 'typeorm';

const UP = [
  `ALTER TABLE operations
    DROP CONSTRAINT operations_kind_check,
    ADD CONSTRAINT operations_kind_check CHECK (kind IN ('create', 'pause', 'resume', 'recover', 'destroy')),
    ADD COLUMN origin jsonb`,

  `ALTER TABLE sandboxes
    ADD COLUMN on_memory_loss text NOT NULL DEFAULT 'reboot',
    ADD COLUMN memory_lost jsonb,
    ADD CONSTRAINT sandboxes_on_memory_loss_check CHECK (on_memory_loss IN ('reboot', 'error'))`,

  `ALTER TABLE hosts ADD COLUMN lost_at timestamptz(3)`,

  // When the hosts can be heard at all. Long ago: until an API has said that it listens, no host's silence means anything.
  `CREATE TABLE control_plane (
    id integer NOT NULL,
    up_since timestamptz(3) NOT NULL,
    beat_at timestamptz(3) NOT NULL,
    CONSTRAINT control_plane_pkey PRIMARY KEY (id),
    CONSTRAINT control_plane_single_check CHECK (id = 1)
  )`,
  `INSERT INTO control_plane (id, up_since, beat_at) VALUES (1, to_timestamp(0), to_timestamp(0))`,

  // No foreign key to a sandbox: what a host holds may be of a build, or of nothing that is known here.
  `CREATE TABLE host_orphans (
    host_id text NOT NULL,
    id text NOT NULL,
    first_seen_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT host_orphans_pkey PRIMARY KEY (host_id, id),
    CONSTRAINT host_orphans_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts (id)
  )`,

  `CREATE TABLE reconcile_log (
    id bigint GENERATED ALWAYS AS IDENTITY,
    run_id text NOT NULL,
    kind text NOT NULL,
    host_id text,
    sandbox_id text,
    outcome text NOT NULL,
    before jsonb NOT NULL,
    after jsonb NOT NULL,
    at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT reconcile_log_pkey PRIMARY KEY (id)
  )`,
  `CREATE INDEX reconcile_log_at_idx ON reconcile_log (at)`,
  `CREATE FUNCTION refuse_log_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP;
    END $$`,
  `CREATE TRIGGER reconcile_log_append_only BEFORE UPDATE OR DELETE ON reconcile_log
    FOR EACH ROW EXECUTE FUNCTION refuse_log_change()`,

  `ALTER TABLE api_keys ADD COLUMN operator boolean NOT NULL DEFAULT false`,
  `UPDATE api_keys SET operator = true WHERE name = 'bootstrap'`,
];

/** Recoveries are forgotten on the way back: the schema before has no word for them. */
const DOWN = [
  `ALTER TABLE api_keys DROP COLUMN operator`,
  `DROP TABLE reconcile_log, host_orphans, control_plane`,
  `DROP FUNCTION refuse_log_change`,
  `ALTER TABLE hosts DROP COLUMN lost_at`,
  `ALTER TABLE sandboxes DROP COLUMN on_memory_loss, DROP COLUMN memory_lost`,
  `UPDATE operations SET retry_of = NULL WHERE retry_of IN (SELECT id FROM operations WHERE kind = 'recover')`,
  `DELETE FROM operations WHERE kind = 'recover'`,
  `ALTER TABLE operations
    DROP COLUMN origin,
    DROP CONSTRAINT operations_kind_check,
    ADD CONSTRAINT operations_kind_check CHECK (kind IN ('create', 'pause', 'resume', 'destroy'))`,
];

/** Lost hosts, recoveries, and what a reconciliation finds. */
export class HostLoss1764000000000 implements MigrationInterface {
  readonly name = 'HostLoss1764000000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of UP) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const statement of DOWN) await runner.query(statement);
  }
}
