import { Check, Column, Entity, ForeignKey, Index, PrimaryColumn } from 'typeorm';
import type { MemoryLoss, SandboxFailure } from '../../activities/control/ports.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { MemoryLossPolicy } from '../../workflows/contract/operations.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import { HostEntity } from '../host/host.entity.js';
import { TeamEntity } from '../team/team.entity.js';
import { TemplateEntity } from '../template/template.entity.js';

/** A projection of what operations did. State, epoch and failure are written by the control activities only. */
@Entity('sandboxes')
@Index('sandboxes_team_id_created_at_idx', ['teamId', 'createdAt', 'id'])
// A GIN index; TypeORM cannot describe one.
@Index('sandboxes_metadata_idx', { synchronize: false })
@Check(
  'sandboxes_state_check',
  `state IN ('starting', 'running', 'pausing', 'paused', 'resuming', 'missing', 'stopping', 'stopped', 'error')`,
)
@Check('sandboxes_on_timeout_check', `on_timeout IN ('pause', 'destroy')`)
@Check('sandboxes_on_memory_loss_check', `on_memory_loss IN ('reboot', 'error')`)
@Check('sandboxes_size_check', `vcpus > 0 AND memory_mb > 0 AND timeout_seconds >= 0`)
@Check('sandboxes_counters_check', `epoch > 0 AND version > 0 AND generation >= 0`)
export class SandboxEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'sandboxes_pkey' })
  id!: string;

  @Column('text')
  @ForeignKey(() => TeamEntity, { name: 'sandboxes_team_id_fkey' })
  teamId!: string;

  @Column('text')
  @ForeignKey(() => TemplateEntity, { name: 'sandboxes_template_id_fkey' })
  templateId!: string;

  @Column('text', { nullable: true })
  @Index('sandboxes_host_id_idx', { where: `state <> 'stopped'` })
  @ForeignKey(() => HostEntity, { name: 'sandboxes_host_id_fkey' })
  hostId!: string | null;

  @Column('text')
  state!: SandboxState;

  /** Grows with every operation; whatever carries an older one is refused. */
  @Column('integer')
  epoch!: number;

  /** Grows with every write of the row. */
  @Column('integer')
  version!: number;

  @Column('integer')
  vcpus!: number;

  @Column('integer')
  memoryMb!: number;

  /** Idle seconds; 0 = never. */
  @Column('integer')
  timeoutSeconds!: number;

  @Column('text')
  onTimeout!: 'pause' | 'destroy';

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  expiresAt!: Date | null;

  @Column('boolean')
  egress!: boolean;

  /** Null in rows that were written before there were policies: `egress` is all there is. */
  @Column('jsonb', { nullable: true })
  network!: NetworkPolicy | null;

  @Column('boolean')
  cold!: boolean;

  @Column('jsonb')
  metadata!: Record<string, string>;

  /** Newest memory snapshot; 0 = none yet. */
  @Column('integer', { default: 0 })
  generation!: number;

  /** What happens when its memory is lost with its host. */
  @Column('text', { default: 'reboot' })
  onMemoryLoss!: MemoryLossPolicy;

  /** The newest loss; kept until the sandbox is stopped. */
  @Column('jsonb', { nullable: true })
  memoryLost!: MemoryLoss | null;

  /** Of the last operation, when it failed. */
  @Column('jsonb', { nullable: true })
  failure!: SandboxFailure | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  startedAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  pausedAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  stoppedAt!: Date | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  updatedAt!: Date;
}
