import { Column, Entity, ForeignKey, PrimaryGeneratedColumn, Unique } from 'typeorm';
import { TemplateBuildEntity } from './template-build.entity.js';

@Entity('build_logs')
@Unique('build_logs_build_id_step_digest_key', ['buildId', 'step', 'digest'])
export class BuildLogEntity {
  @PrimaryGeneratedColumn('identity', {
    type: 'bigint',
    generatedIdentity: 'ALWAYS',
    primaryKeyConstraintName: 'build_logs_pkey',
  })
  seq!: string;

  @Column('text')
  @ForeignKey(() => TemplateBuildEntity, { name: 'build_logs_build_id_fkey', onDelete: 'CASCADE' })
  buildId!: string;

  @Column('integer')
  step!: number;

  /** SHA-256 of the text: appending may run twice and must then add nothing. */
  @Column('text')
  digest!: string;

  @Column('text')
  text!: string;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  at!: Date;
}
