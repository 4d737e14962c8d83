import { Check, Column, Entity, PrimaryColumn } from 'typeorm';

/** One row: when hosts could be heard. What they may be blamed for is judged by it. */
@Entity('control_plane')
@Check('control_plane_single_check', `id = 1`)
export class ControlPlaneEntity {
  @PrimaryColumn('integer', { primaryKeyConstraintName: 'control_plane_pkey' })
  id!: number;

  /** Since when an API has listened without a gap. */
  @Column({ type: 'timestamptz', precision: 3 })
  upSince!: Date;

  /** When an API last said that it listens. */
  @Column({ type: 'timestamptz', precision: 3 })
  beatAt!: Date;
}
