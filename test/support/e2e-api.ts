import type { ExecResultDto } from '../../api/exec/exec.dto.js';
import type { ErrorDto } from '../../api/http/returns.decorator.js';
import type { OperationDto } from '../../api/operation/operation.dto.js';
import type { CreateSandboxDto, PingDto, SandboxDto, SandboxEventDto } from '../../api/sandbox/sandbox.dto.js';
import type { BuildDto, CreateBuildDto } from '../../api/template/template.dto.js';
import { TEMPLATE } from './e2e-template.js';

export interface Question {
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is. */
  text?: string;
  headers?: Record<string, string>;
}

export interface Answer<T = unknown> {
  status: number;
  body: T;
  headers: Headers;
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

type ExecRequest = Record<string, unknown>;

/** A caller of REST v1. It takes no part in what is tested: the product's own client is not used. */
export class Api {
  constructor(
    readonly url: string,
    readonly key?: string,
  ) {}

  /** Whatever the answer is. */
  async ask<T = unknown>(method: string, path: string, question: Question = {}): Promise<Answer<T>> {
    const { body, text, headers } = question;
    const content = text ?? (body === undefined ? undefined : JSON.stringify(body));
    const response = await fetch(this.url + path, {
      method,
      headers: {
        ...(this.key === undefined ? {} : { 'x-api-key': this.key }),
        ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(content === undefined ? {} : { body: content }),
    });
    const received = await response.text();
    const json = response.headers.get('content-type')?.startsWith('application/json');
    return { status: response.status, body: (json ? JSON.parse(received) : received) as T, headers: response.headers };
  }

  /** An answer with this status; any other one fails the test and is shown. */
  async get<T>(path: string): Promise<T> {
    return this.#expect(200, 'GET', path);
  }

  async refused(
    method: string,
    path: string,
    question: Question = {},
  ): Promise<ErrorDto['error'] & { status: number }> {
    const { status, body } = await this.ask<ErrorDto>(method, path, question);
    if (status < 400) throw new Error(`${method} ${path} was not refused: ${status} ${JSON.stringify(body)}`);
    return { status, ...body.error };
  }

  create(body: Partial<CreateSandboxDto> = {}): Promise<SandboxDto> {
    const sent = { template: TEMPLATE.template, ...body };
    return this.#expect(201, 'POST', '/v1/sandboxes?wait=true', { body: sent });
  }

  sandbox(id: string): Promise<SandboxDto> {
    return this.get(`/v1/sandboxes/${id}`);
  }

  pause(id: string): Promise<SandboxDto> {
    return this.#expect(200, 'POST', `/v1/sandboxes/${id}/pause?wait=true`);
  }

  resume(id: string): Promise<SandboxDto> {
    return this.#expect(200, 'POST', `/v1/sandboxes/${id}/resume?wait=true`);
  }

  destroy(id: string): Promise<SandboxDto> {
    return this.#expect(200, 'DELETE', `/v1/sandboxes/${id}?wait=true`);
  }

  /** The operation goes on after the answer. */
  start(id: string, verb: 'pause' | 'resume'): Promise<SandboxDto> {
    return this.#expect(202, 'POST', `/v1/sandboxes/${id}/${verb}`);
  }

  setTimeout(id: string, body: object): Promise<SandboxDto> {
    return this.#expect(200, 'POST', `/v1/sandboxes/${id}/timeout`, { body });
  }

  ping(id: string): Promise<PingDto> {
    return this.#expect(200, 'POST', `/v1/sandboxes/${id}/ping`);
  }

  exec(id: string, request: ExecRequest): Promise<ExecResultDto> {
    return this.#expect(200, 'POST', `/v1/sandboxes/${id}/exec`, { body: request });
  }

  /** Standard output of a line of shell that has to succeed. */
  async sh(id: string, command: string, more: ExecRequest = {}): Promise<string> {
    const { exit_code, stdout, stderr, timed_out } = await this.exec(id, { command, ...more });
    if (exit_code === 0) return stdout.trimEnd();
    throw new Error(`${command} in ${id}: ${timed_out ? 'timed out' : `exit code ${exit_code}`}: ${stderr}`);
  }

  async events(id: string): Promise<SandboxEventDto[]> {
    return (await this.get<Page<SandboxEventDto>>(`/v1/sandboxes/${id}/events?limit=200`)).items;
  }

  operation(id: string): Promise<OperationDto> {
    return this.get(`/v1/operations/${id}`);
  }

  /** Newest first. */
  async operations(query: string): Promise<OperationDto[]> {
    return (await this.get<Page<OperationDto>>(`/v1/operations?${query}`)).items;
  }

  build(body: Partial<CreateBuildDto>): Promise<BuildDto> {
    return this.#expect(201, 'POST', '/v1/templates/builds?wait=true', { body });
  }

  async #expect<T>(status: number, method: string, path: string, question: Question = {}): Promise<T> {
    const answer = await this.ask<T>(method, path, question);
    if (answer.status === status) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} instead of ${status}: ${JSON.stringify(answer.body)}`);
  }
}
