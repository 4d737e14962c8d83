import { Check, Column, Entity, ForeignKey, Index, PrimaryColumn } from 'typeorm';
import { TeamEntity } from './team.entity.js';
import { UserEntity } from './user.entity.js';

@Entity('team_members')
@Check('team_members_role_check', `role IN ('owner', 'admin', 'member')`)
export class TeamMemberEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'team_members_pkey' })
  @ForeignKey(() => TeamEntity, { name: 'team_members_team_id_fkey', onDelete: 'CASCADE' })
  teamId!: string;

  @PrimaryColumn('text', { primaryKeyConstraintName: 'team_members_pkey' })
  @Index('team_members_user_id_idx')
  @ForeignKey(() => UserEntity, { name: 'team_members_user_id_fkey', onDelete: 'CASCADE' })
  userId!: string;

  @Column('text')
  role!: 'owner' | 'admin' | 'member';

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;
}
