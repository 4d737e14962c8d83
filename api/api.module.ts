import { Module, type DynamicModule, type Provider, type Type } from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AccessGuard } from './auth/access.guard.js';
import { ApiKeyRepository } from './auth/api-key.repository.js';
import { CONFIG, type Config } from './config.js';
import { ControlRepository } from './control/control.repository.js';
import { TemporalControl } from './control/temporal-control.js';
import { dataSourceOptions } from './database/data-source-options.js';
import { EdgeProxy } from './edge/edge.proxy.js';
import { ExecService } from './exec/exec.service.js';
import { HealthController } from './health/health.controller.js';
import { HealthService } from './health/health.service.js';
import { HostDataPlane } from './host/host-data-plane.js';
import { ControlPlaneBeat } from './host/control-plane-beat.js';
import { HostController } from './host/host.controller.js';
import { HostRepository } from './host/host.repository.js';
import { HostService } from './host/host.service.js';
import { ReplyInterceptor } from './http/reply.js';
import { IdempotencyService } from './operation/idempotency.service.js';
import { FailedStep } from './operation/failed-step.js';
import { OperationProgress } from './operation/operation-progress.js';
import { OperationRunner } from './operation/operation-runner.js';
import { OperationStarter } from './operation/operation-starter.js';
import { OperationController } from './operation/operation.controller.js';
import { OperationRepository } from './operation/operation.repository.js';
import { OperationService } from './operation/operation.service.js';
import { OpsController } from './ops/ops.controller.js';
import { OpsService } from './ops/ops.service.js';
import { ReconcileLogRepository } from './ops/reconcile-log.repository.js';
import { ReconcileRunner } from './ops/reconcile-runner.js';
import { SandboxNetworkController } from './sandbox/sandbox-network.controller.js';
import { SandboxNetworkService } from './sandbox/sandbox-network.service.js';
import { SandboxUseController } from './sandbox/sandbox-use.controller.js';
import { SandboxUseService } from './sandbox/sandbox-use.service.js';
import { SandboxView } from './sandbox/sandbox-view.js';
import { SandboxController } from './sandbox/sandbox.controller.js';
import { SandboxRepository } from './sandbox/sandbox.repository.js';
import { SandboxService } from './sandbox/sandbox.service.js';
import { BuildLauncher } from './template/build-launcher.js';
import { BuildStarter } from './template/build-starter.js';
import { TemplateBuildRepository } from './template/template-build.repository.js';
import { TemplateBuildService } from './template/template-build.service.js';
import { TemplateController } from './template/template.controller.js';
import { TemplateRepository } from './template/template.repository.js';
import { TemplateService } from './template/template.service.js';
import { TemporalLinks } from './temporal/temporal-links.js';
import { TemporalModule } from './temporal/temporal.module.js';

export const CONTROLLERS: Type[] = [
  HealthController,
  SandboxController,
  SandboxUseController,
  SandboxNetworkController,
  OperationController,
  TemplateController,
  HostController,
  OpsController,
];

/** What controllers are made of; tests of the HTTP layer put fakes in their place. */
export const SERVICES: Type[] = [
  HealthService,
  SandboxService,
  SandboxUseService,
  SandboxNetworkService,
  ExecService,
  OperationService,
  TemplateService,
  TemplateBuildService,
  HostService,
  OpsService,
];

/** What the guard asks who is calling. */
const CREDENTIALS: Type[] = [ApiKeyRepository, HostRepository];

const PARTS: Type[] = [
  ControlRepository,
  OperationRepository,
  SandboxRepository,
  TemplateRepository,
  TemplateBuildRepository,
  SandboxView,
  IdempotencyService,
  OperationRunner,
  OperationProgress,
  FailedStep,
  OperationStarter,
  BuildLauncher,
  BuildStarter,
  TemporalControl,
  TemporalLinks,
  HostDataPlane,
  ControlPlaneBeat,
  ReconcileLogRepository,
  ReconcileRunner,
  EdgeProxy,
];

export const HTTP_POLICIES: Provider[] = [
  { provide: APP_GUARD, useClass: AccessGuard },
  { provide: APP_INTERCEPTOR, useClass: ReplyInterceptor },
];

@Module({})
export class ApiModule {
  static forConfig(config: Config): DynamicModule {
    return {
      module: ApiModule,
      imports: [
        TypeOrmModule.forRoot({
          ...dataSourceOptions(config.databaseUrl, 'torpor-api'),
          retryAttempts: 5,
          retryDelay: 1000,
        }),
        TemporalModule.forConfig(config),
      ],
      controllers: CONTROLLERS,
      providers: [{ provide: CONFIG, useValue: config }, ...CREDENTIALS, ...SERVICES, ...PARTS, ...HTTP_POLICIES],
    };
  }
}
