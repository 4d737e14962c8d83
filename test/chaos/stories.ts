import { operationIdOf, sandboxIdOf } from '../../api/operation/operation-id.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import type { Request } from './caller.js';

export const OPERATIONS = [
  'create',
  'pause',
  'resume',
  'destroy',
  'recover',
  'recover-lost',
  'timeout-pause',
  'network',
  'build',
] as const;
export type OperationName = (typeof OPERATIONS)[number];

/** Team of the platform's first key. */
const TEAM = 'default';

/** What sandboxes are made from. */
export interface GuestKind {
  template: string;
  vcpus: number;
  memory_mb: number;
  /** Booted, rather than restored from the template's memory. */
  cold: boolean;
}

/** As small as the API allows: what a simulated guest really has is a few MiB. */
export const SIMULATED_KIND: GuestKind = { template: 'minimal', vcpus: 1, memory_mb: 128, cold: true };
/** Restored, because a boot takes an emulated CPU many seconds. */
export const REAL_KIND: GuestKind = { template: 'chaos', vcpus: 1, memory_mb: 256, cold: false };
/** Smaller, because an emulated processor writes and hashes all of it. */
export const LAB_KIND: GuestKind = { ...REAL_KIND, memory_mb: 128 };

export const TIMEOUT_SECONDS = 3_600;

/** How an operation is asked for, what it needs and where it may lead. */
export interface Story {
  /** State that the sandbox is put into first; null when there is none yet. */
  from: 'running' | 'paused' | null;
  /** Of the operation's row. */
  kind: string;
  request(subject: string, key: string, guest?: GuestKind): Request;
  success: SandboxState | 'ready';
  undone: SandboxState | 'failed' | null;
  /** Once this step is done the operation must succeed. */
  commit: string;
  /** Its VMM is killed first: its memory is gone, and its disk is not. */
  ruined?: boolean;
  /** A timeout that the keeper carries out in place of a caller. */
  keeper?: boolean;
}

export function sandboxOf(key: string): string {
  return sandboxIdOf(operationIdOf(TEAM, 'POST /v1/sandboxes', key));
}

export function buildOf(key: string): string {
  return operationIdOf(TEAM, 'POST /v1/templates/builds', key);
}

/** With the longest timeout that is of use: its keeper is there, and nothing happens by itself. */
export function createRequest(key: string, more: Partial<GuestKind> & { timeout_seconds?: number } = {}): Request {
  const body = { ...SIMULATED_KIND, timeout_seconds: TIMEOUT_SECONDS, ...more };
  return { method: 'POST', path: '/v1/sandboxes?wait=true', body, key };
}

/** A template for each key: the same one is not built twice at a time. */
function buildRequest(
  key: string,
  { vcpus, memory_mb }: GuestKind = SIMULATED_KIND,
  template = `chaos-${key}`,
): Request {
  const body = { template, image: 'minimal', vcpus, memory_mb, setup: ['true'] };
  return { method: 'POST', path: '/v1/templates/builds?wait=true', body, key };
}

export function verbRequest(verb: 'pause' | 'resume' | 'recover', id: string, key: string): Request {
  return { method: 'POST', path: `/v1/sandboxes/${id}/${verb}?wait=true`, key };
}

export function destroyRequest(id: string, key: string): Request {
  return { method: 'DELETE', path: `/v1/sandboxes/${id}?wait=true`, key };
}

/** An address that no policy names otherwise: whether the new one holds is seen by it. */
export const LET_OUT = '192.0.2.7';

function networkRequest(id: string, key: string): Request {
  const body = { egress: false, allow: [{ cidr: LET_OUT, ports: '80' }] };
  return { method: 'PUT', path: `/v1/sandboxes/${id}/network?wait=true`, body, key };
}

export const STORIES: Readonly<Record<OperationName, Story>> = {
  create: {
    from: null,
    kind: 'create',
    request: (_, key, guest) => createRequest(key, guest),
    success: 'running',
    undone: 'error',
    commit: 'initGuest',
  },
  pause: {
    from: 'running',
    kind: 'pause',
    request: (id, key) => verbRequest('pause', id, key),
    success: 'paused',
    undone: 'running',
    commit: 'recordGeneration',
  },
  resume: {
    from: 'paused',
    kind: 'resume',
    request: (id, key) => verbRequest('resume', id, key),
    success: 'running',
    undone: 'paused',
    commit: 'initGuest',
  },
  destroy: {
    from: 'running',
    kind: 'destroy',
    request: (id, key) => destroyRequest(id, key),
    success: 'stopped',
    undone: null,
    commit: 'claim',
  },
  recover: {
    from: 'running',
    kind: 'recover',
    request: (id, key) => verbRequest('recover', id, key),
    success: 'running',
    undone: 'missing',
    commit: 'unquiesceGuest',
  },
  'recover-lost': {
    from: 'running',
    kind: 'recover',
    request: (id, key) => verbRequest('recover', id, key),
    success: 'running',
    undone: 'missing',
    commit: 'initGuest',
    ruined: true,
  },
  'timeout-pause': {
    from: 'running',
    kind: 'pause',
    // Short, and long enough for the keeper, which is woken by it, to read it and wait once more.
    request: (id) => ({ method: 'POST', path: `/v1/sandboxes/${id}/timeout`, body: { timeout_seconds: 2 } }),
    success: 'paused',
    undone: 'running',
    commit: 'recordGeneration',
    keeper: true,
  },
  network: {
    from: 'running',
    kind: 'network',
    request: (id, key) => networkRequest(id, key),
    success: 'running',
    undone: 'running',
    commit: 'applyNetworkPolicy',
  },
  build: {
    from: null,
    kind: 'build',
    request: (_, key, guest) => buildRequest(key, guest),
    success: 'ready',
    undone: 'failed',
    commit: 'publishBuild',
  },
};
