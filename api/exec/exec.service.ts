import { Injectable } from '@nestjs/common';
import { DomainError } from '../../workflows/contract/errors.js';
import { HostDataPlane } from '../host/host-data-plane.js';
import { randomId } from '../operation/operation-id.js';
import { notIn } from '../sandbox/sandbox-use.service.js';
import type { SandboxEntity } from '../sandbox/sandbox.entity.js';
import { SandboxRepository } from '../sandbox/sandbox.repository.js';
import type { ExecDto, ExecResultDto } from './exec.dto.js';
import { runProgram, type Program } from './guest-process.js';

const AGENT_PORT = 49_983;
const LONGEST_TOUCH_PAUSE_MS = 30_000;

@Injectable()
export class ExecService {
  constructor(
    private readonly sandboxes: SandboxRepository,
    private readonly dataPlane: HostDataPlane,
  ) {}

  async exec(teamId: string, sandboxId: string, body: ExecDto): Promise<ExecResultDto> {
    const program = toProgram(body);
    const sandbox = await this.sandboxes.find(teamId, sandboxId);
    if (!sandbox) throw new DomainError('not_found', `there is no sandbox ${sandboxId}`);
    const { hostId } = sandbox;
    if (sandbox.state !== 'running' || hostId === null) throw notIn(sandbox, 'run anything in');
    const [door, accessToken] = await Promise.all([
      this.dataPlane.door(hostId, sandboxId, AGENT_PORT),
      this.sandboxes.accessToken(sandboxId),
    ]);
    if (accessToken === null) throw new DomainError('internal_error', `sandbox ${sandboxId} has no access token`);
    return this.whileInUse(sandbox, async () => {
      const began = performance.now();
      const { exitCode, output, timedOut } = await runProgram(door, accessToken, program);
      return {
        exit_code: exitCode,
        ...output.encode(),
        duration_ms: Math.round(performance.now() - began),
        truncated: output.truncated,
        timed_out: timedOut,
      };
    });
  }

  /** A sandbox in which a program runs is not idle, however long that takes. */
  private async whileInUse<T>({ id, timeoutSeconds }: SandboxEntity, work: () => Promise<T>): Promise<T> {
    if (timeoutSeconds === 0) return work();
    const touch = (): Promise<unknown> => this.sandboxes.touch(id);
    await touch();
    // The next one is sure to come before the deadline that this one set.
    const timer = setInterval(
      () => void touch().catch(() => undefined),
      Math.min(LONGEST_TOUCH_PAUSE_MS, timeoutSeconds * 400),
    );
    try {
      return await work();
    } finally {
      clearInterval(timer);
      await touch();
    }
  }
}

function toProgram(body: ExecDto): Program {
  const { command, argv, stdin, stdin_base64: encoded } = body;
  if (stdin !== undefined && encoded !== undefined)
    throw invalid('stdin and stdin_base64 cannot both be given', ['stdin', 'stdin_base64']);
  const input = stdin ?? encoded;
  return {
    tag: `exec-${randomId()}`,
    argv: toArgv(command, argv),
    cwd: body.cwd,
    env: body.env,
    user: body.user,
    stdin: input === undefined ? null : Buffer.from(input, stdin === undefined ? 'base64' : 'utf8'),
    timeoutMs: body.timeout_seconds * 1000,
    maxOutputBytes: body.max_output_bytes,
  };
}

function toArgv(command: string | undefined, argv: readonly string[] | undefined): Program['argv'] {
  const [program, ...args] = argv ?? [];
  if ((command === undefined) === (program === undefined)) {
    throw invalid('either command or argv must be given, and not both', ['command', 'argv']);
  }
  return program === undefined ? ['/bin/sh', '-c', command ?? ''] : [program, ...args];
}

function invalid(message: string, fields: string[]): DomainError {
  return new DomainError('invalid_request', message, { fields });
}
