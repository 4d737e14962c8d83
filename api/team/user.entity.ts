import { Check, Column, Entity, PrimaryColumn, Unique } from 'typeorm';

@Entity('users')
@Unique('users_email_key', ['email'])
@Check('users_status_check', `status IN ('active', 'disabled')`)
export class UserEntity {
  @PrimaryColumn('text', { primaryKeyConstraintName: 'users_pkey' })
  id!: string;

  @Column('text')
  email!: string;

  @Column('text')
  name!: string;

  /** Null for people who sign in elsewhere. */
  @Column('text', { nullable: true })
  passwordHash!: string | null;

  @Column('text', { default: 'active' })
  status!: 'active' | 'disabled';

  @Column({ type: 'timestamptz', precision: 3, default: () => 'now()' })
  createdAt!: Date;
}
