import { Column, Entity, ForeignKey, Index, PrimaryColumn, Unique } from 'typeorm';
import { TeamEntity } from '../team/team.entity.js';
import { UserEntity } from '../team/user.entity.js';

@Entity('api_keys')
@Unique('api_keys_hash_key', ['hash'])
export class ApiKeyEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'api_keys_pkey' })
  id!: string;

  @Column('text')
  @Index('api_keys_team_id_idx')
  @ForeignKey(() => TeamEntity, { name: 'api_keys_team_id_fkey', onDelete: 'CASCADE' })
  teamId!: string;

  @Column('text')
  name!: string;

  /** The first characters of the key, enough to recognise it. */
  @Column('text')
  prefix!: string;

  /** SHA-256 of the whole key, hexadecimal. The key itself is shown once and kept nowhere. */
  @Column('text')
  hash!: string;

  /** May also call what operates the platform. */
  @Column('boolean', { default: false })
  operator!: boolean;

  @Column('text', { nullable: true })
  @ForeignKey(() => UserEntity, { name: 'api_keys_created_by_fkey', onDelete: 'SET NULL' })
  createdBy!: string | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  lastUsedAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  revokedAt!: Date | null;
}
