import type { Verdict } from '../activities/host/contract.js';
import type { ControlPlane, GuestConfig } from '../activities/host/ports.js';
import { DomainError, isErrorCode } from '../workflows/contract/errors.js';
import type { SandboxState } from '../workflows/contract/states.js';

const TIMEOUT_MS = 10_000;
/** In one question. */
const MAX_IDS = 500;

/** What the control plane is told about this machine; the API's own field names. */
export interface HostInfo {
  name: string;
  arch: string;
  version: string;
  vcpus: number;
  memory_mb: number;
  disk_mb: number;
  data_plane_url: string;
  data_plane_token: string;
  hypervisor: string;
  hypervisor_version: string;
  cpu: string;
  drivers: { hypervisor: string; disk: string; network: string };
  images: string[];
}

/** What the control plane knows of a sandbox or build on this host that has not ended. */
export interface AssignedSandbox {
  id: string;
  state: SandboxState | 'build';
  epoch: number;
  open_operation: boolean;
}

/** The API's host routes. Everything it throws says which request failed. */
export class ControlPlaneClient implements ControlPlane {
  constructor(
    private readonly apiUrl: string,
    private readonly hostToken: () => string | undefined,
  ) {}

  async register(info: HostInfo, registrationToken: string): Promise<{ hostId: string; token: string }> {
    const headers = { 'X-Registration-Token': registrationToken };
    const answer = await this.#ask<{ host_id: string; token: string }>('POST', '/v1/hosts/register', {
      headers,
      body: info,
    });
    return { hostId: answer.host_id, token: answer.token };
  }

  async heartbeat(info: HostInfo, signal?: AbortSignal): Promise<{ hostId: string }> {
    const answer = await this.#ask<{ host_id: string }>('POST', '/v1/hosts/self/heartbeat', { body: info, signal });
    return { hostId: answer.host_id };
  }

  async assigned(signal?: AbortSignal): Promise<AssignedSandbox[]> {
    return (await this.#ask<{ items: AssignedSandbox[] }>('GET', '/v1/hosts/self/sandboxes', { signal })).items;
  }

  async verdicts(ids: readonly string[], signal?: AbortSignal): Promise<ReadonlyMap<string, Verdict>> {
    const verdicts = new Map<string, Verdict>();
    for (let at = 0; at < ids.length; at += MAX_IDS) {
      const body = { ids: ids.slice(at, at + MAX_IDS) };
      const answer = await this.#ask<Record<Verdict, string[]>>('POST', '/v1/hosts/self/verdicts', { body, signal });
      for (const verdict of ['live', 'ended', 'unknown'] as const) {
        for (const id of answer[verdict]) verdicts.set(id, verdict);
      }
    }
    return verdicts;
  }

  async guestConfig(sandboxId: string, signal?: AbortSignal): Promise<GuestConfig> {
    const path = `/v1/hosts/self/sandboxes/${encodeURIComponent(sandboxId)}/guest-config`;
    const answer = await this.#ask<{
      access_token: string;
      env: Record<string, string>;
      template_id: string;
      user: string;
    }>('GET', path, { signal });
    return { accessToken: answer.access_token, env: answer.env, templateId: answer.template_id, user: answer.user };
  }

  async #ask<T>(
    method: 'GET' | 'POST',
    path: string,
    options: { headers?: Record<string, string>; body?: object; signal?: AbortSignal | undefined },
  ): Promise<T> {
    const token = this.hostToken();
    const request = `${method} ${this.apiUrl}${path}`;
    let response: Response;
    try {
      const timeout = AbortSignal.timeout(TIMEOUT_MS);
      response = await fetch(`${this.apiUrl}${path}`, {
        method,
        headers: {
          ...(token === undefined ? {} : { 'X-Host-Token': token }),
          ...(options.body ? { 'Content-Type': 'application/json' } : {}),
          ...options.headers,
        },
        ...(options.body ? { body: JSON.stringify(options.body) } : {}),
        signal: options.signal ? AbortSignal.any([options.signal, timeout]) : timeout,
      });
    } catch (err) {
      options.signal?.throwIfAborted();
      throw new DomainError('control_plane_unavailable', `${request} failed: ${reasonOf(err)}`, {}, { cause: err });
    }
    const text = await response.text();
    if (!response.ok) throw failureOf(request, response.status, text);
    return JSON.parse(text) as T;
  }
}

/** `fetch` hides the reason, such as a refused connection, in its error's cause. */
function reasonOf(err: unknown): string {
  if (typeof err !== 'object' || err === null) return String(err);
  if ('cause' in err && err.cause !== undefined) return reasonOf(err.cause);
  return 'message' in err ? String(err.message) : JSON.stringify(err);
}

function failureOf(request: string, status: number, text: string): DomainError {
  const { code, message } = errorOf(text);
  if (isErrorCode(code)) return new DomainError(code, `${request} was answered with ${status}: ${message}`);
  const fallback = status === 401 ? 'unauthorized' : 'control_plane_unavailable';
  return new DomainError(fallback, `${request} was answered with ${status}: ${text.slice(0, 200)}`);
}

/** A proxy in front of the API may answer with anything. */
function errorOf(text: string): { code?: string; message?: string } {
  try {
    const parsed = JSON.parse(text) as { error?: { code?: string; message?: string } } | null;
    return parsed?.error ?? {};
  } catch {
    return {};
  }
}
