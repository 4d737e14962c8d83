import { CliError } from './cli-error.js';
import { readCredentials, type CliConfig } from './config.js';
import { EXIT, type ExitCode } from './exit-codes.js';
import type * as rest from './rest-types.js';

export interface ApiTarget {
  url: string;
  key: string;
}

/** The API that the environment names, else the one of `torpor up` on this machine. */
export function findApi(config: CliConfig): ApiTarget {
  const stored = readCredentials(config.home);
  const url = config.apiUrl ?? stored?.api_url;
  // The stored key belongs to the stored platform and is not shown to another one.
  const key =
    config.apiKey ?? (config.apiUrl === undefined || config.apiUrl === stored?.api_url ? stored?.api_key : undefined);
  if (url === undefined) {
    throw new CliError(
      'there is no platform to talk to: TORPOR_API_URL is not set, and none was started on this machine',
      {
        suggestion: 'start one with `sudo torpor up`, or set TORPOR_API_URL and TORPOR_API_KEY',
        exitCode: EXIT.unreachable,
        code: 'no_platform',
      },
    );
  }
  if (key === undefined) {
    throw new CliError(`there is no key for ${url}`, {
      suggestion: 'set TORPOR_API_KEY',
      exitCode: EXIT.unauthorized,
      code: 'unauthorized',
    });
  }
  return { url: url.replace(/\/+$/, ''), key };
}

interface RequestOptions {
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  idempotencyKey?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** Longer than any answer that does not wait for a workflow, exec excepted. */
const TIMEOUT_MS = 30_000;
/** It waits for every host, those that do not answer included. */
const RECONCILE_TIMEOUT_MS = 300_000;

/** REST v1 with its errors as CliErrors. */
export class RestClient {
  constructor(readonly target: ApiTarget) {}

  create(body: rest.CreateRequest, idempotencyKey?: string): Promise<rest.Sandbox> {
    return this.#json('POST', '/v1/sandboxes', { body, idempotencyKey });
  }
  sandbox(id: string): Promise<rest.Sandbox> {
    return this.#json('GET', `/v1/sandboxes/${encodeURIComponent(id)}`);
  }
  sandboxes(query: Record<string, string | number | undefined>): Promise<rest.Page<rest.Sandbox>> {
    return this.#json('GET', '/v1/sandboxes', { query });
  }
  pause(id: string): Promise<rest.Sandbox> {
    return this.#json('POST', `/v1/sandboxes/${id}/pause`);
  }
  resume(id: string): Promise<rest.Sandbox> {
    return this.#json('POST', `/v1/sandboxes/${id}/resume`);
  }
  recover(id: string, body: { discard_memory: boolean }): Promise<rest.Sandbox> {
    return this.#json('POST', `/v1/sandboxes/${id}/recover`, { body });
  }
  destroy(id: string): Promise<rest.Sandbox> {
    return this.#json('DELETE', `/v1/sandboxes/${id}`);
  }
  setTimeout(id: string, body: { timeout_seconds: number; on_timeout?: string }): Promise<rest.Sandbox> {
    return this.#json('POST', `/v1/sandboxes/${id}/timeout`, { body });
  }
  network(id: string): Promise<rest.SandboxNetwork> {
    return this.#json('GET', `/v1/sandboxes/${id}/network`);
  }
  setNetwork(id: string, body: rest.NetworkPolicy): Promise<rest.Sandbox> {
    return this.#json('PUT', `/v1/sandboxes/${id}/network`, { body });
  }
  exec(id: string, body: rest.ExecRequest): Promise<rest.ExecResult> {
    // The server keeps to the deadline; ours only guards against a server that hangs.
    const signal = AbortSignal.timeout(((body.timeout_seconds ?? 30) + 30) * 1000);
    return this.#json('POST', `/v1/sandboxes/${id}/exec`, { body, signal });
  }
  events(id: string, cursor?: string): Promise<rest.Page<rest.SandboxEvent>> {
    return this.#json('GET', `/v1/sandboxes/${id}/events`, { query: { limit: 200, cursor } });
  }
  console(id: string, maxBytes: number): Promise<string> {
    return this.#text(`/v1/sandboxes/${id}/console`, { max_bytes: maxBytes });
  }
  operation(id: string): Promise<rest.Operation> {
    return this.#json('GET', `/v1/operations/${encodeURIComponent(id)}`);
  }
  operations(query: Record<string, string | number | undefined>): Promise<rest.Page<rest.Operation>> {
    return this.#json('GET', '/v1/operations', { query });
  }
  retryOperation(id: string): Promise<rest.Operation> {
    return this.#json('POST', `/v1/operations/${encodeURIComponent(id)}/retry`);
  }
  templates(query: Record<string, string | number | undefined> = {}): Promise<rest.Page<rest.Template>> {
    return this.#json('GET', '/v1/templates', { query });
  }
  build(body: rest.BuildRequest): Promise<rest.Build> {
    return this.#json('POST', '/v1/templates/builds', { body });
  }
  builds(query: Record<string, string | number | undefined>): Promise<rest.Page<rest.Build>> {
    return this.#json('GET', '/v1/templates/builds', { query });
  }
  buildStatus(id: string): Promise<rest.Build> {
    return this.#json('GET', `/v1/templates/builds/${encodeURIComponent(id)}`);
  }
  buildLog(id: string, offset: number): Promise<string> {
    return this.#text(`/v1/templates/builds/${encodeURIComponent(id)}/log`, { offset });
  }
  cancelBuild(id: string): Promise<rest.Build> {
    return this.#json('POST', `/v1/templates/builds/${encodeURIComponent(id)}/cancel`);
  }
  hosts(query: Record<string, string | number | undefined> = {}): Promise<rest.Page<rest.Host>> {
    return this.#json('GET', '/v1/hosts', { query });
  }
  reconcile(body: { dry_run: boolean; remove_unknown: boolean }): Promise<rest.ReconcileReport> {
    return this.#json('POST', '/v1/ops/reconcile', { body, signal: AbortSignal.timeout(RECONCILE_TIMEOUT_MS) });
  }
  findings(query: Record<string, string | number | undefined>): Promise<rest.Page<rest.LoggedFinding>> {
    return this.#json('GET', '/v1/ops/findings', { query });
  }

  async #json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.#send(method, path, options);
    return (await response.json()) as T;
  }

  async #text(path: string, query: Record<string, number>): Promise<string> {
    return (await this.#send('GET', path, { query })).text();
  }

  async #send(
    method: string,
    path: string,
    { query, body, idempotencyKey, signal }: RequestOptions,
  ): Promise<Response> {
    const url = new URL(this.target.url + path);
    for (const [name, value] of Object.entries(query ?? {}))
      if (value !== undefined) url.searchParams.set(name, String(value));
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers: {
          'X-API-Key': this.target.key,
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...(idempotencyKey === undefined ? {} : { 'Idempotency-Key': idempotencyKey }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: signal ?? AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch (error) {
      throw unreachable(this.target.url, error);
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

function unreachable(url: string, error: unknown): CliError {
  const { name, message, cause } = error as Error;
  if (name === 'TimeoutError')
    return new CliError(`${url} did not answer in time`, { exitCode: EXIT.timeout, code: 'timeout', cause: error });
  return new CliError(`${url} cannot be reached: ${cause instanceof Error ? cause.message : message}`, {
    suggestion: 'start a platform with `sudo torpor up`, or set TORPOR_API_URL',
    exitCode: EXIT.unreachable,
    code: 'unreachable',
    cause: error,
  });
}

async function refusal(response: Response): Promise<CliError> {
  const body: unknown = await response.json().catch(() => undefined);
  const { error } = (body ?? {}) as { error?: { code?: string; message?: string; suggestion?: string } };
  return new CliError(error?.message ?? `the API answered ${response.status} ${response.statusText}`, {
    code: error?.code ?? 'failed',
    suggestion: error?.suggestion,
    exitCode: exitCodeOf(response.status),
  });
}

export function exitCodeOf(status: number): ExitCode {
  switch (status) {
    case 400:
    case 413:
    case 422:
      return EXIT.usage;
    case 401:
    case 403:
      return EXIT.unauthorized;
    case 404:
      return EXIT.notFound;
    case 409:
      return EXIT.conflict;
    case 502:
    case 503:
      return EXIT.unreachable;
    case 504:
      return EXIT.timeout;
    default:
      return EXIT.failed;
  }
}

/** All items of a list, page by page, up to a limit. */
export async function collect<T>(
  limit: number,
  page: (query: { limit: number; cursor?: string }) => Promise<rest.Page<T>>,
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null | undefined;
  do {
    const query = { limit: Math.min(200, limit - items.length), ...(cursor == null ? {} : { cursor }) };
    const { items: more, next_cursor } = await page(query);
    items.push(...more);
    cursor = next_cursor;
  } while (cursor !== null && items.length < limit);
  return items;
}
