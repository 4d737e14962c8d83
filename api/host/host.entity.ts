import { Check, Column, Entity, PrimaryColumn, Unique } from 'typeorm';

@Entity('hosts')
@Unique('hosts_token_hash_key', ['tokenHash'])
@Check('hosts_capacity_check', `vcpus > 0 AND memory_mb > 0 AND disk_mb >= 0`)
export class HostEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'hosts_pkey' })
  id!: string;

  /** For people. Two machines may have the same. */
  @Column('text')
  name!: string;

  /** SHA-256 of the token with which the host authenticates to the API, hexadecimal. */
  @Column('text')
  tokenHash!: string;

  /** Where the API reaches the host's data plane. */
  @Column('text')
  dataPlaneUrl!: string;

  /** What the API authenticates with there; kept in clear because the API must send it. */
  @Column('text')
  dataPlaneToken!: string;

  @Column('text')
  arch!: string;

  @Column('text')
  version!: string;

  @Column('integer')
  vcpus!: number;

  @Column('integer')
  memoryMb!: number;

  @Column('integer')
  diskMb!: number;

  @Column('text')
  hypervisor!: string;

  @Column('text')
  hypervisorVersion!: string;

  @Column('text')
  cpu!: string;

  /** Driver by port: hypervisor, disk, network. */
  @Column('jsonb')
  drivers!: Record<string, string>;

  /** Root filesystems that the host can boot without a build. */
  @Column('jsonb')
  images!: string[];

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  registeredAt!: Date;

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  heartbeatAt!: Date;

  /** Since when its sandboxes are `missing`; null while it is heard, and once it has been compared after its return. */
  @Column({ type: 'timestamptz', precision: 3, nullable: true })
  lostAt!: Date | null;
}
