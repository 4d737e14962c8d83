import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { networkPolicyOf } from '../../workflows/contract/network-policy.js';
import type { OperationEntity } from '../operation/operation.entity.js';
import { OperationRepository } from '../operation/operation.repository.js';
import { TemplateRepository } from '../template/template.repository.js';
import { toNetworkPolicyDto } from './network.dto.js';
import { nextSteps } from './next-steps.js';
import type { SandboxDto, SandboxEventDto } from './sandbox.dto.js';
import type { SandboxEventEntity } from './sandbox-event.entity.js';
import type { SandboxEntity } from './sandbox.entity.js';
import { SandboxRepository } from './sandbox.repository.js';

/** Sandboxes as the API shows them: the row, its template's name, the operation that is at work on it. */
@Injectable()
export class SandboxView {
  constructor(
    private readonly sandboxes: SandboxRepository,
    private readonly operations: OperationRepository,
    private readonly templates: TemplateRepository,
  ) {}

  /** The row as it is now, with the guest's token. */
  async one(teamId: string, id: string): Promise<SandboxDto> {
    const row = await this.sandboxes.find(teamId, id);
    if (!row) throw new DomainError('not_found', `there is no sandbox ${id}`);
    const [shown, token] = await Promise.all([this.many(teamId, [row]), this.sandboxes.accessToken(id)]);
    const [dto] = shown;
    if (!dto) throw new Error(`sandbox ${id} was not shown`);
    return token === null ? dto : { ...dto, access_token: token };
  }

  async many(teamId: string, rows: readonly SandboxEntity[]): Promise<SandboxDto[]> {
    const [open, names] = await Promise.all([
      this.operations.openOf(
        teamId,
        rows.map(({ id }) => id),
      ),
      this.templates.namesOf(rows.map(({ templateId }) => templateId)),
    ]);
    return rows.map((row) => toSandboxDto(row, names.get(row.templateId) ?? row.templateId, open.get(row.id)));
  }
}

function toSandboxDto(row: SandboxEntity, template: string, open: OperationEntity | undefined): SandboxDto {
  const { failure } = row;
  const policy = networkPolicyOf(row);
  return {
    id: row.id,
    state: row.state,
    template,
    vcpus: row.vcpus,
    memory_mb: row.memoryMb,
    timeout_seconds: row.timeoutSeconds,
    on_timeout: row.onTimeout,
    on_memory_loss: row.onMemoryLoss,
    memory_lost: row.memoryLost && {
      at: row.memoryLost.at,
      reason: row.memoryLost.reason,
      operation_id: row.memoryLost.operationId,
    },
    expires_at: row.expiresAt?.toISOString() ?? null,
    egress: policy.egress,
    network: toNetworkPolicyDto(policy),
    metadata: row.metadata,
    host_id: row.hostId,
    generation: row.generation,
    created_at: row.createdAt.toISOString(),
    started_at: row.startedAt?.toISOString() ?? null,
    paused_at: row.pausedAt?.toISOString() ?? null,
    updated_at: row.updatedAt.toISOString(),
    failure: failure && {
      operation_id: failure.operationId,
      step: failure.step,
      code: failure.code,
      message: failure.message,
      suggestion: failure.suggestion,
      at: failure.at,
    },
    next_steps: nextSteps(row, open?.kind),
    operation: open ? { id: open.id, kind: open.kind } : null,
  };
}

export function toEventDto({ id, type, at, operationId, data }: SandboxEventEntity): SandboxEventDto {
  return { id, type, at: at.toISOString(), operation_id: operationId, data };
}
