import { createHash } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import type {
  BuildRecord,
  ControlTransaction,
  HostLoad,
  OperationRecord,
  SandboxEvent,
  SandboxRecord,
  TemplateRecord,
} from '../../activities/control/ports.js';
import type { TemplateBuildInput } from '../../workflows/contract/operations.js';
import type { HostLease } from '../../activities/control/survey-ports.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import { onlineHostLoads } from '../host/host-load.query.js';
import { HostEntity } from '../host/host.entity.js';
import { hostLease } from './survey.queries.js';
import { OperationRequestEntity } from '../operation/operation-request.entity.js';
import { OperationEntity } from '../operation/operation.entity.js';
import { SandboxSecretEntity } from '../sandbox/sandbox-secret.entity.js';
import { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { PLATFORM_TEAM_ID } from '../team/team.entity.js';
import { BuildLogEntity } from '../template/build-log.entity.js';
import { TemplateBuildEntity } from '../template/template-build.entity.js';
import { TemplateEntity } from '../template/template.entity.js';

/** Any number that nothing else in the database locks. */
const PLACEMENT_LOCK = 7_867_768;

/** Relies on READ COMMITTED: a statement after a lock sees what the lock's last holder committed. */
export class TypeOrmControlTransaction implements ControlTransaction {
  constructor(private readonly manager: EntityManager) {}

  lockSandbox(id: string): Promise<SandboxRecord | null> {
    return this.manager.findOne(SandboxEntity, { where: { id }, lock: { mode: 'pessimistic_write' } });
  }

  async insertSandbox(sandbox: SandboxRecord): Promise<void> {
    await this.manager.insert(SandboxEntity, { ...pick(sandbox, SANDBOX_COLUMNS), version: 1 });
  }

  async updateSandbox(id: string, changes: Partial<SandboxRecord>): Promise<void> {
    const update = this.manager.createQueryBuilder().update(SandboxEntity);
    await update
      .set({ ...changes, version: () => 'version + 1', updatedAt: () => 'now()' })
      .where({ id })
      .execute();
  }

  async deleteSecrets(id: string): Promise<void> {
    await this.manager.delete(SandboxSecretEntity, { id });
  }

  findOperation(id: string): Promise<OperationRecord | null> {
    return this.manager.findOneBy(OperationEntity, { id });
  }

  findOpenOperation(sandboxId: string): Promise<OperationRecord | null> {
    return this.manager.findOneBy(OperationEntity, { sandboxId, state: 'running' });
  }

  findNewestOperation(sandboxId: string): Promise<OperationRecord | null> {
    return this.manager.findOne(OperationEntity, { where: { sandboxId }, order: { epoch: 'DESC' } });
  }

  async insertOperation(operation: OperationRecord): Promise<void> {
    const request = await this.manager.findOneBy(OperationRequestEntity, { opId: operation.id });
    await this.manager.insert(OperationEntity, { ...operation, retryOf: request?.retryOf ?? null });
  }

  async updateOperation(id: string, changes: Parameters<ControlTransaction['updateOperation']>[1]): Promise<void> {
    await this.manager.update(OperationEntity, { id }, changes);
  }

  async closeOperation(id: string, end: Parameters<ControlTransaction['closeOperation']>[1]): Promise<void> {
    await this.manager.update(OperationEntity, { id }, end);
  }

  async appendEvent(event: SandboxEvent): Promise<void> {
    const { sandboxId, teamId, type, operationId, data } = event;
    await this.manager.query(
      'INSERT INTO sandbox_events (sandbox_id, team_id, type, operation_id, data) VALUES ($1, $2, $3, $4, $5)',
      [sandboxId, teamId, type, operationId, JSON.stringify(data)],
    );
  }

  async lockHost(id: string): Promise<HostLease | null> {
    // Not for its key: operations of its sandboxes refer to it and must not wait, nor be waited for in a circle.
    const [row] = await this.manager.query<unknown[]>('SELECT id FROM hosts WHERE id = $1 FOR NO KEY UPDATE', [id]);
    return row === undefined ? null : hostLease(this.manager, id);
  }

  async setLostAt(id: string, lostAt: Date | null): Promise<void> {
    await this.manager.update(HostEntity, { id }, { lostAt });
  }

  async markMissing(
    { id, silentSince }: { id: string; silentSince: Date },
    from: readonly SandboxState[],
  ): Promise<number> {
    const missing = await this.manager.query<unknown[]>(
      `WITH lost AS (SELECT id, team_id, state FROM sandboxes WHERE host_id = $1 AND state = ANY($2) FOR UPDATE),
       moved AS (UPDATE sandboxes s SET state = 'missing', version = version + 1, updated_at = now()
         FROM lost WHERE s.id = lost.id RETURNING s.id, s.team_id, lost.state AS was)
       INSERT INTO sandbox_events (sandbox_id, team_id, type, data)
         SELECT id, team_id, 'host.lost',
           jsonb_build_object('host_id', $1::text, 'silent_since', $3::text, 'was', was) FROM moved
       RETURNING id`,
      [id, from, silentSince.toISOString()],
    );
    return missing.length;
  }

  async findTemplate(id: string): Promise<TemplateRecord | null> {
    const template = await this.manager.findOneBy(TemplateEntity, { id });
    return template && { ...template, platform: template.teamId === PLATFORM_TEAM_ID };
  }

  async lockPlacement(): Promise<void> {
    await this.manager.query('SELECT pg_advisory_xact_lock($1)', [PLACEMENT_LOCK]);
  }

  onlineHosts(): Promise<HostLoad[]> {
    return onlineHostLoads(this.manager);
  }

  buildsOf(templateId: string): Promise<BuildRecord[]> {
    return this.manager.find(TemplateBuildEntity, {
      where: { templateId },
      order: { finishedAt: { direction: 'DESC', nulls: 'FIRST' }, id: 'DESC' },
    });
  }

  lockBuild(id: string): Promise<BuildRecord | null> {
    return this.manager.findOne(TemplateBuildEntity, { where: { id }, lock: { mode: 'pessimistic_write' } });
  }

  async insertBuild(input: TemplateBuildInput & { hostId: string; epoch: number; runId: string }): Promise<void> {
    const { buildId, teamId, templateId, image, vcpus, memoryMb, setup, hostId, epoch, runId } = input;
    const build = { id: buildId, teamId, templateId, image, vcpus, memoryMb, setup, hostId, epoch, runId };
    await this.manager.insert(TemplateBuildEntity, { ...build, state: 'running' });
  }

  async appendBuildLog(buildId: string, step: number, text: string): Promise<void> {
    // Postgres keeps no NUL in text; a command may well print one.
    const printable = text.replaceAll('\0', '\u{FFFD}');
    const digest = createHash('sha256').update(printable).digest('hex');
    const log = this.manager.createQueryBuilder().insert().into(BuildLogEntity);
    await log.values({ buildId, step, digest, text: printable }).orIgnore().execute();
    await this.manager.query('UPDATE template_builds SET steps_done = greatest(steps_done, $2) WHERE id = $1', [
      buildId,
      step,
    ]);
  }

  async closeBuild(id: string, end: Parameters<ControlTransaction['closeBuild']>[1]): Promise<void> {
    await this.manager.update(TemplateBuildEntity, { id }, end);
  }
}

const SANDBOX_COLUMNS = [
  'id',
  'teamId',
  'templateId',
  'hostId',
  'state',
  'epoch',
  'vcpus',
  'memoryMb',
  'timeoutSeconds',
  'onTimeout',
  'expiresAt',
  'egress',
  'network',
  'cold',
  'metadata',
  'onMemoryLoss',
  'generation',
  'memoryLost',
  'failure',
  'startedAt',
  'pausedAt',
  'stoppedAt',
] as const satisfies readonly (keyof SandboxRecord)[];

/** A record may carry more than its columns: workflow inputs grow fields. */
function pick<T, K extends keyof T>(record: T, keys: readonly K[]): Pick<T, K> {
  return Object.fromEntries(keys.map((key) => [key, record[key]])) as Pick<T, K>;
}
