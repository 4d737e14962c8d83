import type { DataSourceOptions } from 'typeorm';
import { ApiKeyEntity } from '../auth/api-key.entity.js';
import { ControlPlaneEntity } from '../host/control-plane.entity.js';
import { HostOrphanEntity } from '../host/host-orphan.entity.js';
import { HostEntity } from '../host/host.entity.js';
import { OperationRequestEntity } from '../operation/operation-request.entity.js';
import { OperationEntity } from '../operation/operation.entity.js';
import { ReconcileLogEntity } from '../ops/reconcile-log.entity.js';
import { SandboxEventEntity } from '../sandbox/sandbox-event.entity.js';
import { SandboxSecretEntity } from '../sandbox/sandbox-secret.entity.js';
import { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { TeamMemberEntity } from '../team/team-member.entity.js';
import { TeamEntity } from '../team/team.entity.js';
import { UserEntity } from '../team/user.entity.js';
import { BuildLogEntity } from '../template/build-log.entity.js';
import { TemplateBuildEntity } from '../template/template-build.entity.js';
import { TemplateEntity } from '../template/template.entity.js';
import { SnakeNamingStrategy } from './snake-naming.strategy.js';

const ENTITIES = [
  TeamEntity,
  UserEntity,
  TeamMemberEntity,
  ApiKeyEntity,
  HostEntity,
  HostOrphanEntity,
  ControlPlaneEntity,
  TemplateEntity,
  TemplateBuildEntity,
  BuildLogEntity,
  SandboxEntity,
  SandboxSecretEntity,
  OperationEntity,
  OperationRequestEntity,
  SandboxEventEntity,
  ReconcileLogEntity,
];

export function dataSourceOptions(url: string, applicationName: string): DataSourceOptions {
  return {
    type: 'postgres',
    url,
    applicationName,
    entities: ENTITIES,
    namingStrategy: new SnakeNamingStrategy(),
    // Not an entity; without the name the schema check takes it for a leftover.
    migrationsTableName: 'schema_migrations',
    synchronize: false,
    extra: {
      max: 20,
      // A database that is down must be an answer, not a wait.
      connectionTimeoutMillis: 3_000,
      statement_timeout: 15_000,
      idle_in_transaction_session_timeout: 15_000,
    },
  };
}
