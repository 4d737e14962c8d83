import { DataSource } from 'typeorm';
import { InitialSchema1763800000000 } from './1763800000000-initial-schema.js';
import { OperationHost1763900000000 } from './1763900000000-operation-host.js';
import { HostLoss1764000000000 } from './1764000000000-host-loss.js';
import { NetworkPolicy1764100000000 } from './1764100000000-network-policy.js';

/** In the order in which they are applied. */
const MIGRATIONS = [
  InitialSchema1763800000000,
  OperationHost1763900000000,
  HostLoss1764000000000,
  NetworkPolicy1764100000000,
];

/** A connection that knows the migrations and no entity: what a migration does must not change with the code. */
export function createMigrationDataSource(url: string): DataSource {
  return new DataSource({
    type: 'postgres',
    url,
    applicationName: 'torpor-migrations',
    migrations: MIGRATIONS,
    migrationsTableName: 'schema_migrations',
    migrationsTransactionMode: 'each',
    synchronize: false,
  });
}
