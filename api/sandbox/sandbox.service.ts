import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import type { CreateSandboxInput } from '../../workflows/contract/operations.js';
import type { OperationKind, SandboxState } from '../../workflows/contract/states.js';
import { newAccessToken } from '../auth/tokens.js';
import { splitList } from '../http/list-of.js';
import { decodePosition, encodePosition, type Page } from '../http/paging.js';
import { Reply } from '../http/reply.js';
import { IdempotencyService } from '../operation/idempotency.service.js';
import { sandboxIdOf } from '../operation/operation-id.js';
import { OperationRunner, throwFailure, type RunOptions } from '../operation/operation-runner.js';
import { OperationStarter, type StartedOperation } from '../operation/operation-starter.js';
import { TemplateRepository } from '../template/template.repository.js';
import { toNetworkPolicy, type NetworkPolicyDto } from './network.dto.js';
import { SandboxView } from './sandbox-view.js';
import type { CreateSandboxDto, RecoverSandboxDto, ResumeSandboxDto, SandboxDto, SandboxQuery } from './sandbox.dto.js';
import type { SandboxEntity } from './sandbox.entity.js';
import { SandboxRepository } from './sandbox.repository.js';

/** How a lifecycle request was made. */
export interface Asked {
  teamId: string;
  idempotencyKey: string | null;
  waitMs: number;
}

/** What starts, ends and shows sandboxes. Rows are written by the workflows that this starts. */
@Injectable()
export class SandboxService {
  constructor(
    private readonly sandboxes: SandboxRepository,
    private readonly view: SandboxView,
    private readonly templates: TemplateRepository,
    private readonly idempotency: IdempotencyService,
    private readonly starter: OperationStarter,
    private readonly runner: OperationRunner,
  ) {}

  async create(asked: Asked, body: CreateSandboxDto): Promise<Reply<SandboxDto>> {
    const { teamId, idempotencyKey, waitMs } = asked;
    const template = await this.templates.visible(teamId, body.template);
    if (!template) throw new DomainError('not_found', `there is no template ${body.template}; see GET /v1/templates`);
    const network = policyAsked(body);
    const begun = await this.idempotency.begin(teamId, 'POST /v1/sandboxes', idempotencyKey, {
      ...body,
      egress: network.egress,
    });
    const sandboxId = sandboxIdOf(begun.opId);
    const input: CreateSandboxInput = {
      opId: begun.opId,
      sandboxId,
      teamId,
      spec: {
        templateId: template.id,
        vcpus: body.vcpus ?? template.vcpus,
        memoryMb: body.memory_mb ?? template.memoryMb,
        timeoutSeconds: body.timeout_seconds,
        onTimeout: body.on_timeout,
        egress: network.egress,
        network,
        metadata: body.metadata,
        onMemoryLoss: body.on_memory_loss,
        cold: body.cold,
      },
    };
    const started = await this.idempotency.once(teamId, begun, waitMs, async () => {
      await this.sandboxes.ensureSecret({ id: sandboxId, teamId, accessToken: newAccessToken(), env: body.env });
      return this.startCreate(input, template.id, waitMs);
    });
    throwFailure(started, sandboxId);
    return new Reply(started.settled ? 201 : 202, await this.view.one(teamId, sandboxId), begun.earlier !== null);
  }

  private async startCreate(input: CreateSandboxInput, templateId: string, waitMs: number): Promise<StartedOperation> {
    try {
      return await this.starter.start({ kind: 'create', input, templateId, hostId: null, waitMs });
    } catch (error) {
      // Refused for good: unless it is there already, there is no sandbox that the secret could be of.
      if (error instanceof DomainError && error.code !== 'control_plane_unavailable') {
        await this.sandboxes.removeUntakenSecret(input.sandboxId);
      }
      throw error;
    }
  }

  async list(teamId: string, query: SandboxQuery): Promise<Page<SandboxDto>> {
    const filter = {
      states: splitList<SandboxState>(query.state),
      metadata: query.metadata,
      templateIds: query.template === undefined ? undefined : await this.templates.idsOf(teamId, query.template),
    };
    const after = query.cursor === undefined ? null : decodePosition(query.cursor);
    const rows = await this.sandboxes.list(teamId, filter, query.limit + 1, after);
    const shown = rows.slice(0, query.limit);
    const last = shown.at(-1);
    return {
      items: await this.view.many(teamId, shown),
      next_cursor: last && rows.length > query.limit ? encodePosition({ at: last.createdAt, id: last.id }) : null,
    };
  }

  get(teamId: string, id: string): Promise<SandboxDto> {
    return this.view.one(teamId, id);
  }

  pause(asked: Asked, id: string): Promise<Reply<SandboxDto>> {
    return this.operate(asked, id, 'pause', {});
  }

  resume(asked: Asked, id: string, body: ResumeSandboxDto): Promise<Reply<SandboxDto>> {
    return this.operate(asked, id, 'resume', body, {}, async (sandbox) => {
      if (body.timeout_seconds === undefined || sandbox.state !== 'paused') return;
      await this.sandboxes.setTimeout(sandbox, { timeoutSeconds: body.timeout_seconds, onTimeout: sandbox.onTimeout });
    });
  }

  recover(asked: Asked, id: string, body: RecoverSandboxDto): Promise<Reply<SandboxDto>> {
    return this.operate(asked, id, 'recover', body, { discardMemory: body.discard_memory });
  }

  changeNetwork(asked: Asked, id: string, body: NetworkPolicyDto): Promise<Reply<SandboxDto>> {
    return this.operate(asked, id, 'network', body, { network: toNetworkPolicy(body, body.egress) });
  }

  async destroy(asked: Asked, id: string): Promise<Reply<SandboxDto>> {
    const sandbox = await this.known(asked.teamId, id);
    if (sandbox.state === 'stopped') return new Reply(200, await this.view.one(asked.teamId, id));
    return this.operate(asked, id, 'destroy', {});
  }

  private async operate(
    { teamId, idempotencyKey, waitMs }: Asked,
    id: string,
    kind: Exclude<OperationKind, 'create'>,
    body: object,
    options: Pick<RunOptions, 'discardMemory' | 'network'> = {},
    prepare: (sandbox: SandboxEntity) => Promise<void> = () => Promise.resolve(),
  ): Promise<Reply<SandboxDto>> {
    const sandbox = await this.known(teamId, id);
    const begun = await this.idempotency.begin(teamId, `${kind} ${id}`, idempotencyKey, body);
    const started = await this.idempotency.once(teamId, begun, waitMs, async () => {
      await prepare(sandbox);
      return this.runner.run(sandbox, kind, { ...options, opId: begun.opId, waitMs, reason: 'requested' });
    });
    throwFailure(started, id);
    return new Reply(started.settled ? 200 : 202, await this.view.one(teamId, id), begun.earlier !== null);
  }

  private async known(teamId: string, id: string): Promise<SandboxEntity> {
    const sandbox = await this.sandboxes.find(teamId, id);
    if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${id}`);
    return sandbox;
  }
}

/** `egress` alone is short for a policy; beside one it is what the policy leaves open. */
function policyAsked({ egress, network }: CreateSandboxDto): NetworkPolicy {
  if (network?.egress !== undefined && egress !== undefined && network.egress !== egress) {
    throw new DomainError(
      'invalid_request',
      `egress is ${egress} and network.egress is ${network.egress}: leave one of them out, or send the same`,
      { fields: ['egress', 'network.egress'] },
    );
  }
  const open = network?.egress ?? egress ?? true;
  return network ? toNetworkPolicy(network, open) : { egress: open };
}
