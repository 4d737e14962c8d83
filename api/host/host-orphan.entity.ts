import { Column, Entity, ForeignKey, PrimaryColumn } from 'typeorm';
import { HostEntity } from './host.entity.js';

/** What a host holds and nobody owns, from when it was first seen until it is seen no more. */
@Entity('host_orphans')
export class HostOrphanEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'host_orphans_pkey' })
  @ForeignKey(() => HostEntity, { name: 'host_orphans_host_id_fkey' })
  hostId!: string;

  /** Of a sandbox or build, or of nothing that is known. */
  @PrimaryColumn('text', { primaryKeyConstraintName: 'host_orphans_pkey' })
  id!: string;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  firstSeenAt!: Date;
}
