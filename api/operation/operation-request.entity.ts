import { Column, Entity, ForeignKey, PrimaryColumn } from 'typeorm';
import { TeamEntity } from '../team/team.entity.js';

/**
 * What a caller asked for under an Idempotency-Key, or which operation a new one
 * repeats. Written before the workflow starts, because the operation's own row is
 * written by the workflow.
 */
@Entity('operation_requests')
export class OperationRequestEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'operation_requests_pkey' })
  opId!: string;

  @Column('text')
  @ForeignKey(() => TeamEntity, { name: 'operation_requests_team_id_fkey' })
  teamId!: string;

  @Column('text')
  route!: string;

  /** SHA-256 of the request's canonical body, hexadecimal. */
  @Column('text')
  requestHash!: string;

  @Column('text', { nullable: true })
  retryOf!: string | null;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;
}
