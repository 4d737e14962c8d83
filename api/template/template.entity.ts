import { Check, Column, Entity, ForeignKey, PrimaryColumn, Unique } from 'typeorm';
import { TeamEntity } from '../team/team.entity.js';

@Entity('templates')
@Unique('templates_team_id_name_key', ['teamId', 'name'])
@Check('templates_size_check', `vcpus > 0 AND memory_mb > 0`)
export class TemplateEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'templates_pkey' })
  id!: string;

  @Column('text')
  @ForeignKey(() => TeamEntity, { name: 'templates_team_id_fkey' })
  teamId!: string;

  @Column('text')
  name!: string;

  /** Root filesystem of the hosts' catalogue that it starts from. */
  @Column('text')
  image!: string;

  /** Size of a sandbox whose request names none. */
  @Column('integer')
  vcpus!: number;

  @Column('integer')
  memoryMb!: number;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;
}
