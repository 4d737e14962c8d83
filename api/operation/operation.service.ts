import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import {
  OPERATIONS,
  type OperationKind,
  type OperationState,
  type SandboxState,
} from '../../workflows/contract/states.js';
import { splitList } from '../http/list-of.js';
import { decodePosition, encodePosition, toPage, type Page } from '../http/paging.js';
import { Reply } from '../http/reply.js';
import { SandboxRepository } from '../sandbox/sandbox.repository.js';
import { TemporalLinks } from '../temporal/temporal-links.js';
import { FailedStep } from './failed-step.js';
import { randomId } from './operation-id.js';
import { OperationProgress } from './operation-progress.js';
import { OperationRunner } from './operation-runner.js';
import { toOperationDto, type OperationDto, type OperationQuery } from './operation.dto.js';
import type { OperationEntity } from './operation.entity.js';
import { OperationRepository } from './operation.repository.js';

@Injectable()
export class OperationService {
  constructor(
    private readonly operations: OperationRepository,
    private readonly sandboxes: SandboxRepository,
    private readonly runner: OperationRunner,
    private readonly progress: OperationProgress,
    private readonly failedStep: FailedStep,
    private readonly links: TemporalLinks,
  ) {}

  async list(teamId: string, query: OperationQuery): Promise<Page<OperationDto>> {
    const filter = {
      sandboxId: query.sandbox_id,
      states: splitList<OperationState>(query.state),
      kinds: splitList<OperationKind>(query.kind),
    };
    const after = query.cursor === undefined ? null : decodePosition(query.cursor);
    const rows = await this.operations.list(teamId, filter, query.limit + 1, after);
    return toPage(
      rows,
      query.limit,
      (row) => toOperationDto(row, this.links.of),
      ({ startedAt, id }) => encodePosition({ at: startedAt, id }),
    );
  }

  async get(teamId: string, id: string): Promise<OperationDto> {
    const row = await this.known(teamId, id);
    const open = row.state === 'running';
    return toOperationDto(row, this.links.of, {
      progress: open ? await this.progress.of(row) : null,
      attempts: open ? null : await this.failedStep.attemptsOf(row),
    });
  }

  /** A new operation with a new epoch; nothing of the failed one is used again. */
  async retry(teamId: string, id: string, waitMs: number): Promise<Reply<OperationDto>> {
    const failed = await this.known(teamId, id);
    const { kind, sandboxId, network } = failed;
    const sandbox = await this.sandboxes.find(teamId, sandboxId);
    if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
    this.refuseUnlessRepeatable(failed, sandbox.state);
    const opId = randomId();
    await this.operations.ensureRequest({ opId, teamId, route: `retry ${id}`, requestHash: '', retryOf: id });
    const request = { opId, waitMs, reason: `retry of ${id}`, ...(network ? { network } : {}) };
    const started = await this.runner.run(sandbox, kind as Exclude<OperationKind, 'create'>, request);
    return new Reply(started.settled ? 200 : 202, await this.get(teamId, started.opId));
  }

  private refuseUnlessRepeatable({ id, kind, state }: OperationEntity, sandboxState: SandboxState): void {
    if (state !== 'failed' && state !== 'cancelled') {
      throw new DomainError(
        'state_conflict',
        `operation ${id} is ${state}: only failed and cancelled ones can be repeated`,
        {
          state,
        },
      );
    }
    if (kind === 'create') {
      throw new DomainError(
        'state_conflict',
        `a create cannot be repeated on its sandbox, which is ${sandboxState}: create another`,
        {
          state: sandboxState,
        },
      );
    }
    if (!OPERATIONS[kind].from.includes(sandboxState)) {
      throw new DomainError('state_conflict', `cannot ${kind} again: the sandbox is ${sandboxState}`, {
        state: sandboxState,
      });
    }
  }

  private async known(teamId: string, id: string): Promise<OperationEntity> {
    const row = await this.operations.find(teamId, id);
    if (!row) throw new DomainError('not_found', `there is no operation ${id}`);
    return row;
  }
}
