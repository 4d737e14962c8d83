import { Column, Entity, ForeignKey, Index, PrimaryGeneratedColumn } from 'typeorm';
import { TeamEntity } from '../team/team.entity.js';
import { SandboxEntity } from './sandbox.entity.js';

/** What happened to a sandbox. Append-only: a trigger refuses everything else. */
@Entity('sandbox_events')
@Index('sandbox_events_sandbox_id_id_idx', ['sandboxId', 'id'])
export class SandboxEventEntity {
  @PrimaryGeneratedColumn('identity', {
    type: 'bigint',
    generatedIdentity: 'ALWAYS',
    primaryKeyConstraintName: 'sandbox_events_pkey',
  })
  id!: string;

  @Column('text')
  @ForeignKey(() => SandboxEntity, { name: 'sandbox_events_sandbox_id_fkey' })
  sandboxId!: string;

  @Column('text')
  @ForeignKey(() => TeamEntity, { name: 'sandbox_events_team_id_fkey' })
  teamId!: string;

  @Column('text')
  type!: string;

  @Column('text', { nullable: true })
  operationId!: string | null;

  @Column('jsonb')
  data!: Record<string, unknown>;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  at!: Date;
}
