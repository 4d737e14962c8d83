import type { MigrationInterface, QueryRunner } from 'typeorm';

/** An operation tells which host its steps ran on: its sandbox may be on another one later. */
export class OperationHost1763900000000 implements MigrationInterface {
  readonly name = 'OperationHost1763900000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE operations ADD COLUMN host_id text,
      ADD CONSTRAINT operations_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts (id)`);
    await runner.query(`UPDATE operations SET host_id = sandboxes.host_id
      FROM sandboxes WHERE sandboxes.id = operations.sandbox_id`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE operations DROP COLUMN host_id');
  }
}
