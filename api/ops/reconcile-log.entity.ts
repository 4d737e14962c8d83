import { Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';
import type { FindingKind, Reconciled } from '../../workflows/contract/findings.js';

/** What reconciliations found and did. Append-only: a trigger refuses everything else. */
@Entity('reconcile_log')
@Index('reconcile_log_at_idx', ['at'])
export class ReconcileLogEntity {
  @PrimaryGeneratedColumn('identity', {
    type: 'bigint',
    generatedIdentity: 'ALWAYS',
    primaryKeyConstraintName: 'reconcile_log_pkey',
  })
  id!: string;

  /** Temporal run that found it. */
  @Column('text')
  runId!: string;

  @Column('text')
  kind!: FindingKind;

  @Column('text', { nullable: true })
  hostId!: string | null;

  /** Sandbox or build; null when it is about the host. */
  @Column('text', { nullable: true })
  sandboxId!: string | null;

  @Column('text')
  outcome!: Reconciled['outcome'];

  @Column('jsonb')
  before!: Record<string, unknown>;

  @Column('jsonb')
  after!: Record<string, unknown>;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  at!: Date;
}
