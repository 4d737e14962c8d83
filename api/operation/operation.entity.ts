import { Check, Column, Entity, ForeignKey, Index, PrimaryColumn, Unique } from 'typeorm';
import type { RecoveryOrigin, StoredPlacement } from '../../activities/control/ports.js';
import type { Failure } from '../../workflows/contract/errors.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { OperationKind, OperationState } from '../../workflows/contract/states.js';
import { HostEntity } from '../host/host.entity.js';
import { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { TeamEntity } from '../team/team.entity.js';

/** One workflow run. Written by the control activities only. */
@Entity('operations')
@Unique('operations_sandbox_id_epoch_key', ['sandboxId', 'epoch'])
@Index('operations_open_sandbox_id_key', ['sandboxId'], { unique: true, where: `state = 'running'` })
@Index('operations_team_id_started_at_idx', ['teamId', 'startedAt', 'id'])
@Index('operations_sandbox_id_started_at_idx', ['sandboxId', 'startedAt', 'id'])
@Check('operations_kind_check', `kind IN ('create', 'pause', 'resume', 'recover', 'network', 'destroy')`)
@Check('operations_state_check', `state IN ('running', 'succeeded', 'failed', 'cancelled')`)
@Check('operations_finished_check', `(state = 'running') = (finished_at IS NULL)`)
export class OperationEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'operations_pkey' })
  id!: string;

  @Column('text')
  kind!: OperationKind;

  @Column('text')
  @ForeignKey(() => SandboxEntity, { name: 'operations_sandbox_id_fkey' })
  sandboxId!: string;

  @Column('text')
  @ForeignKey(() => TeamEntity, { name: 'operations_team_id_fkey' })
  teamId!: string;

  /** Where its steps run; null when the sandbox never reached a host. */
  @Column('text', { nullable: true })
  @ForeignKey(() => HostEntity, { name: 'operations_host_id_fkey' })
  hostId!: string | null;

  /** Temporal run that owns it; the same operation in any other run is refused. */
  @Column('text')
  runId!: string;

  @Column('text')
  state!: OperationState;

  /** The step that failed. */
  @Column('text', { nullable: true })
  step!: string | null;

  @Column('integer')
  epoch!: number;

  /** Why it was started, when not by request. */
  @Column('text', { nullable: true })
  reason!: string | null;

  /** What a create was given to boot from, so that claiming twice answers the same. */
  @Column('jsonb', { nullable: true })
  placement!: StoredPlacement | null;

  /** What a recovery found when it took the sandbox, so that claiming twice answers the same. */
  @Column('jsonb', { nullable: true })
  origin!: RecoveryOrigin | null;

  /** Policy that a change of the network is to bring. */
  @Column('jsonb', { nullable: true })
  network!: NetworkPolicy | null;

  @Column('jsonb', { nullable: true })
  failure!: Failure | null;

  @Column('text', { nullable: true })
  @ForeignKey(() => OperationEntity, { name: 'operations_retry_of_fkey' })
  retryOf!: string | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  startedAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  finishedAt!: Date | null;
}
