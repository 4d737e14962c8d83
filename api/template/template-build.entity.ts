import { Check, Column, Entity, ForeignKey, Index, PrimaryColumn } from 'typeorm';
import type { BuildArtefact } from '../../activities/host/contract.js';
import type { Failure } from '../../workflows/contract/errors.js';
import type { BuildState } from '../../workflows/contract/states.js';
import { HostEntity } from '../host/host.entity.js';
import { TeamEntity } from '../team/team.entity.js';
import { TemplateEntity } from './template.entity.js';

@Entity('template_builds')
@Index('template_builds_template_id_state_idx', ['templateId', 'state', 'finishedAt'])
@Index('template_builds_team_id_started_at_idx', ['teamId', 'startedAt', 'id'])
@Check('template_builds_state_check', `state IN ('running', 'ready', 'failed', 'cancelled')`)
@Check('template_builds_finished_check', `(state = 'running') = (finished_at IS NULL)`)
@Check('template_builds_artefact_check', `(state = 'ready') = (artefact IS NOT NULL)`)
export class TemplateBuildEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'template_builds_pkey' })
  id!: string;

  @Column('text')
  @ForeignKey(() => TeamEntity, { name: 'template_builds_team_id_fkey' })
  teamId!: string;

  @Column('text')
  @ForeignKey(() => TemplateEntity, { name: 'template_builds_template_id_fkey' })
  templateId!: string;

  @Column('text')
  image!: string;

  @Column('integer')
  vcpus!: number;

  @Column('integer')
  memoryMb!: number;

  /** Shell commands, in order. */
  @Column('jsonb')
  setup!: string[];

  @Column('text')
  state!: BuildState;

  /** The host that makes it, and afterwards the only one that has it. */
  @Column('text')
  @Index('template_builds_host_id_idx', { where: `state = 'running'` })
  @ForeignKey(() => HostEntity, { name: 'template_builds_host_id_fkey' })
  hostId!: string;

  @Column('integer')
  epoch!: number;

  @Column('text')
  runId!: string;

  /** Set-up commands that have run. */
  @Column('integer', { default: 0 })
  stepsDone!: number;

  @Column('jsonb', { nullable: true })
  failure!: Failure | null;

  @Column('jsonb', { nullable: true })
  artefact!: BuildArtefact | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  startedAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  finishedAt!: Date | null;
}
