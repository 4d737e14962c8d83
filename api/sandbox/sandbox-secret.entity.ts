import { Column, Entity, ForeignKey, PrimaryColumn } from 'typeorm';
import { TeamEntity } from '../team/team.entity.js';

/**
 * What the guest of a sandbox or build is told and nobody else may read. Written before
 * the workflow starts, deleted when the sandbox is stopped or the build has ended.
 */
@Entity('sandbox_secrets')
export class SandboxSecretEntity {
  /** Of the sandbox or the build. */
  @PrimaryColumn('text', { primaryKeyConstraintName: 'sandbox_secrets_pkey' })
  id!: string;

  @Column('text')
  @ForeignKey(() => TeamEntity, { name: 'sandbox_secrets_team_id_fkey' })
  teamId!: string;

  @Column('text')
  accessToken!: string;

  @Column('jsonb')
  env!: Record<string, string>;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;
}
