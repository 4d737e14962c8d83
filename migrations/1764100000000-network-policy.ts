import type { MigrationInterface, QueryRunner } from 'typeorm';

const UP = [
  // Null until somebody says more than `egress` does; both are written, so that a worker of the version before can still read a row.
  `ALTER TABLE sandboxes ADD COLUMN network jsonb`,
  `ALTER TABLE operations
    DROP CONSTRAINT operations_kind_check,
    ADD CONSTRAINT operations_kind_check CHECK (kind IN ('create', 'pause', 'resume', 'recover', 'network', 'destroy')),
    ADD COLUMN network jsonb`,
];

/** Changes of policies are forgotten on the way back: the schema before has no word for them. */
const DOWN = [
  `UPDATE operations SET retry_of = NULL WHERE retry_of IN (SELECT id FROM operations WHERE kind = 'network')`,
  `DELETE FROM operations WHERE kind = 'network'`,
  `ALTER TABLE operations
    DROP COLUMN network,
    DROP CONSTRAINT operations_kind_check,
    ADD CONSTRAINT operations_kind_check CHECK (kind IN ('create', 'pause', 'resume', 'recover', 'destroy'))`,
  `ALTER TABLE sandboxes DROP COLUMN network`,
];

/** What each sandbox may send, and changes of it as operations. */
export class NetworkPolicy1764100000000 implements MigrationInterface {
  readonly name = 'NetworkPolicy1764100000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of UP) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const statement of DOWN) await runner.query(statement);
  }
}
