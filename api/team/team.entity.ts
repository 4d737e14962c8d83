import { Column, Entity, PrimaryColumn } from 'typeorm';

/** Owner of what no single team owns: templates that everybody may use. */
export const PLATFORM_TEAM_ID = 'platform';

@Entity('teams')
export class TeamEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'teams_pkey' })
  id!: string;

  @Column('text')
  name!: string;

  @Column('boolean', { default: false })
  isPlatform!: boolean;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;
}
