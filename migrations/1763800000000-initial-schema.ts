import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Timestamps keep milliseconds, like the clocks of the processes that read them:
 * a page cursor made from a row then compares equal to that row.
 */
const TABLES = [
  `CREATE TABLE teams (
    id text NOT NULL,
    name text NOT NULL,
    is_platform boolean NOT NULL DEFAULT false,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT teams_pkey PRIMARY KEY (id)
  )`,

  `CREATE TABLE users (
    id text NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    password_hash text,
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_status_check CHECK (status IN ('active', 'disabled'))
  )`,

  `CREATE TABLE team_members (
    team_id text NOT NULL,
    user_id text NOT NULL,
    role text NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT team_members_pkey PRIMARY KEY (team_id, user_id),
    CONSTRAINT team_members_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id) ON DELETE CASCADE,
    CONSTRAINT team_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT team_members_role_check CHECK (role IN ('owner', 'admin', 'member'))
  )`,
  `CREATE INDEX team_members_user_id_idx ON team_members (user_id)`,

  `CREATE TABLE api_keys (
    id text NOT NULL,
    team_id text NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    hash text NOT NULL,
    created_by text,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    last_used_at timestamptz(3),
    revoked_at timestamptz(3),
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_hash_key UNIQUE (hash),
    CONSTRAINT api_keys_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id) ON DELETE CASCADE,
    CONSTRAINT api_keys_created_by_fkey FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE SET NULL
  )`,
  `CREATE INDEX api_keys_team_id_idx ON api_keys (team_id)`,

  `CREATE TABLE hosts (
    id text NOT NULL,
    name text NOT NULL,
    token_hash text NOT NULL,
    data_plane_url text NOT NULL,
    data_plane_token text NOT NULL,
    arch text NOT NULL,
    version text NOT NULL,
    vcpus integer NOT NULL,
    memory_mb integer NOT NULL,
    disk_mb integer NOT NULL,
    hypervisor text NOT NULL,
    hypervisor_version text NOT NULL,
    cpu text NOT NULL,
    drivers jsonb NOT NULL,
    images jsonb NOT NULL,
    registered_at timestamptz(3) NOT NULL DEFAULT now(),
    heartbeat_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT hosts_pkey PRIMARY KEY (id),
    CONSTRAINT hosts_token_hash_key UNIQUE (token_hash),
    CONSTRAINT hosts_capacity_check CHECK (vcpus > 0 AND memory_mb > 0 AND disk_mb >= 0)
  )`,

  `CREATE TABLE templates (
    id text NOT NULL,
    team_id text NOT NULL,
    name text NOT NULL,
    image text NOT NULL,
    vcpus integer NOT NULL,
    memory_mb integer NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT templates_pkey PRIMARY KEY (id),
    CONSTRAINT templates_team_id_name_key UNIQUE (team_id, name),
    CONSTRAINT templates_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id),
    CONSTRAINT templates_size_check CHECK (vcpus > 0 AND memory_mb > 0)
  )`,

  `CREATE TABLE template_builds (
    id text NOT NULL,
    team_id text NOT NULL,
    template_id text NOT NULL,
    image text NOT NULL,
    vcpus integer NOT NULL,
    memory_mb integer NOT NULL,
    setup jsonb NOT NULL,
    state text NOT NULL,
    host_id text NOT NULL,
    epoch integer NOT NULL,
    run_id text NOT NULL,
    steps_done integer NOT NULL DEFAULT 0,
    failure jsonb,
    artefact jsonb,
    started_at timestamptz(3) NOT NULL DEFAULT now(),
    finished_at timestamptz(3),
    CONSTRAINT template_builds_pkey PRIMARY KEY (id),
    CONSTRAINT template_builds_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id),
    CONSTRAINT template_builds_template_id_fkey FOREIGN KEY (template_id) REFERENCES templates (id),
    CONSTRAINT template_builds_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts (id),
    CONSTRAINT template_builds_state_check CHECK (state IN ('running', 'ready', 'failed', 'cancelled')),
    CONSTRAINT template_builds_finished_check CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT template_builds_artefact_check CHECK ((state = 'ready') = (artefact IS NOT NULL))
  )`,
  `CREATE INDEX template_builds_template_id_state_idx ON template_builds (template_id, state, finished_at)`,
  `CREATE INDEX template_builds_team_id_started_at_idx ON template_builds (team_id, started_at, id)`,
  `CREATE INDEX template_builds_host_id_idx ON template_builds (host_id) WHERE state = 'running'`,

  // A chunk is identified by what it says: the activity that appends it may run twice.
  `CREATE TABLE build_logs (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    build_id text NOT NULL,
    step integer NOT NULL,
    digest text NOT NULL,
    text text NOT NULL,
    at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT build_logs_pkey PRIMARY KEY (seq),
    CONSTRAINT build_logs_build_id_step_digest_key UNIQUE (build_id, step, digest),
    CONSTRAINT build_logs_build_id_fkey FOREIGN KEY (build_id) REFERENCES template_builds (id) ON DELETE CASCADE
  )`,

  `CREATE TABLE sandboxes (
    id text NOT NULL,
    team_id text NOT NULL,
    template_id text NOT NULL,
    host_id text,
    state text NOT NULL,
    epoch integer NOT NULL,
    version integer NOT NULL,
    vcpus integer NOT NULL,
    memory_mb integer NOT NULL,
    timeout_seconds integer NOT NULL,
    on_timeout text NOT NULL,
    expires_at timestamptz(3),
    egress boolean NOT NULL,
    cold boolean NOT NULL,
    metadata jsonb NOT NULL,
    generation integer NOT NULL DEFAULT 0,
    failure jsonb,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    started_at timestamptz(3),
    paused_at timestamptz(3),
    stopped_at timestamptz(3),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT sandboxes_pkey PRIMARY KEY (id),
    CONSTRAINT sandboxes_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id),
    CONSTRAINT sandboxes_template_id_fkey FOREIGN KEY (template_id) REFERENCES templates (id),
    CONSTRAINT sandboxes_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts (id),
    CONSTRAINT sandboxes_state_check CHECK (state IN
      ('starting', 'running', 'pausing', 'paused', 'resuming', 'missing', 'stopping', 'stopped', 'error')),
    CONSTRAINT sandboxes_on_timeout_check CHECK (on_timeout IN ('pause', 'destroy')),
    CONSTRAINT sandboxes_size_check CHECK (vcpus > 0 AND memory_mb > 0 AND timeout_seconds >= 0),
    CONSTRAINT sandboxes_counters_check CHECK (epoch > 0 AND version > 0 AND generation >= 0)
  )`,
  `CREATE INDEX sandboxes_team_id_created_at_idx ON sandboxes (team_id, created_at, id)`,
  `CREATE INDEX sandboxes_host_id_idx ON sandboxes (host_id) WHERE state <> 'stopped'`,
  `CREATE INDEX sandboxes_metadata_idx ON sandboxes USING gin (metadata jsonb_path_ops)`,

  // No foreign key to what owns the secret: the API writes it before the workflow that
  // writes that row starts, so that secrets never enter a workflow's history.
  `CREATE TABLE sandbox_secrets (
    id text NOT NULL,
    team_id text NOT NULL,
    access_token text NOT NULL,
    env jsonb NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT sandbox_secrets_pkey PRIMARY KEY (id),
    CONSTRAINT sandbox_secrets_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id)
  )`,

  `CREATE TABLE operations (
    id text NOT NULL,
    kind text NOT NULL,
    sandbox_id text NOT NULL,
    team_id text NOT NULL,
    run_id text NOT NULL,
    state text NOT NULL,
    step text,
    epoch integer NOT NULL,
    reason text,
    placement jsonb,
    failure jsonb,
    retry_of text,
    started_at timestamptz(3) NOT NULL DEFAULT now(),
    finished_at timestamptz(3),
    CONSTRAINT operations_pkey PRIMARY KEY (id),
    CONSTRAINT operations_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes (id),
    CONSTRAINT operations_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id),
    CONSTRAINT operations_retry_of_fkey FOREIGN KEY (retry_of) REFERENCES operations (id),
    CONSTRAINT operations_sandbox_id_epoch_key UNIQUE (sandbox_id, epoch),
    CONSTRAINT operations_kind_check CHECK (kind IN ('create', 'pause', 'resume', 'destroy')),
    CONSTRAINT operations_state_check CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT operations_finished_check CHECK ((state = 'running') = (finished_at IS NULL))
  )`,
  `CREATE UNIQUE INDEX operations_open_sandbox_id_key ON operations (sandbox_id) WHERE state = 'running'`,
  `CREATE INDEX operations_team_id_started_at_idx ON operations (team_id, started_at, id)`,
  `CREATE INDEX operations_sandbox_id_started_at_idx ON operations (sandbox_id, started_at, id)`,

  `CREATE TABLE operation_requests (
    op_id text NOT NULL,
    team_id text NOT NULL,
    route text NOT NULL,
    request_hash text NOT NULL,
    retry_of text,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT operation_requests_pkey PRIMARY KEY (op_id),
    CONSTRAINT operation_requests_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id)
  )`,

  `CREATE TABLE sandbox_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    sandbox_id text NOT NULL,
    team_id text NOT NULL,
    type text NOT NULL,
    operation_id text,
    data jsonb NOT NULL,
    at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT sandbox_events_pkey PRIMARY KEY (id),
    CONSTRAINT sandbox_events_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes (id),
    CONSTRAINT sandbox_events_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id)
  )`,
  `CREATE INDEX sandbox_events_sandbox_id_id_idx ON sandbox_events (sandbox_id, id)`,

  `CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'sandbox_events is append-only: % refused', TG_OP;
    END $$`,
  `CREATE TRIGGER sandbox_events_append_only BEFORE UPDATE OR DELETE ON sandbox_events
    FOR EACH ROW EXECUTE FUNCTION refuse_event_change()`,
];

const SEED = [
  `INSERT INTO teams (id, name, is_platform) VALUES ('platform', 'Platform', true)`,
  `INSERT INTO templates (id, team_id, name, image, vcpus, memory_mb)
    VALUES ('minimal', 'platform', 'minimal', 'minimal', 1, 512)`,
];

export class InitialSchema1763800000000 implements MigrationInterface {
  readonly name = 'InitialSchema1763800000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of [...TABLES, ...SEED]) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TABLE sandbox_events, operation_requests, operations, sandbox_secrets, sandboxes,
      build_logs, template_builds, templates, hosts, api_keys, team_members, users, teams`);
    await runner.query(`DROP FUNCTION refuse_event_change`);
  }
}
