/**
 * Every error code of the platform, in one table. The code is the `type` of a
 * Temporal failure, the `code` of an HTTP error body and what programs branch on;
 * nobody branches on message text.
 */
export const ERRORS = {
  invalid_request: { http: 400, retryable: false, suggestion: 'correct the named field and send the request again' },
  unauthorized: { http: 401, retryable: false, suggestion: 'send a valid key in the X-API-Key header' },
  forbidden: { http: 403, retryable: false, suggestion: 'use a key whose role allows this' },
  not_found: { http: 404, retryable: false, suggestion: 'check the id; resources of other teams are not visible' },
  state_conflict: {
    http: 409,
    retryable: false,
    suggestion: 'look at the state of the sandbox and try again when it allows this',
  },
  operation_in_progress: {
    http: 409,
    retryable: false,
    suggestion: 'wait for the named operation to end, or destroy the sandbox',
  },
  stale_operation: {
    http: 409,
    retryable: false,
    suggestion: 'nothing: a newer operation owns the sandbox and this run changed nothing',
  },
  too_large: { http: 413, retryable: false, suggestion: 'send or produce less data' },
  idempotency_key_reused: {
    http: 422,
    retryable: false,
    suggestion: 'use a new Idempotency-Key for a different request',
  },
  rate_limited: { http: 429, retryable: true, suggestion: 'try again later' },
  internal_error: {
    http: 500,
    retryable: true,
    suggestion:
      'look at the log of the process that failed: of a step the host worker, of a request the API; with `torpor up` they are $TORPOR_HOME/logs/host-worker.log and api.log',
  },
  command_failed: {
    http: 500,
    retryable: true,
    suggestion:
      'run the command shown on the host; what else happened there is in the log of its host worker, with `torpor up` $TORPOR_HOME/logs/host-worker.log',
  },
  snapshot_corrupt: {
    http: 500,
    retryable: false,
    suggestion: 'the saved memory cannot be trusted; destroy the sandbox or boot it cold from its disk',
  },
  snapshot_incompatible: {
    http: 409,
    retryable: false,
    suggestion:
      'nothing is lost: let its host run again what saved the memory and resume it, or give up the memory and boot it from its disk: torpor sandbox recover --discard-memory ID',
  },
  memory_lost: {
    http: 500,
    retryable: false,
    suggestion: 'boot it from its disk: torpor sandbox recover ID; or give it up: torpor sandbox rm ID',
  },
  sandbox_lost: {
    http: 500,
    retryable: false,
    suggestion: 'nothing of it can be brought back: torpor sandbox rm ID, then create another one',
  },
  unsupported: { http: 501, retryable: false, suggestion: 'see `torpor doctor` on the host for what it offers' },
  guest_unavailable: {
    http: 502,
    retryable: true,
    suggestion: 'look at the console log: torpor sandbox logs --console ID',
  },
  guest_failed: { http: 502, retryable: true, suggestion: 'look at the console log: torpor sandbox logs --console ID' },
  host_unavailable: {
    http: 503,
    retryable: true,
    suggestion: 'see `torpor host ls`; start the host worker of that host',
  },
  no_hosts_available: {
    http: 503,
    retryable: true,
    suggestion: 'add a host or destroy sandboxes; see `torpor host ls`',
  },
  control_plane_unavailable: { http: 503, retryable: true, suggestion: 'see /health for the part that is down' },
  timeout: { http: 504, retryable: true, suggestion: 'try again with a longer timeout' },
  disk_full: { http: 507, retryable: false, suggestion: 'free space on the host, then repeat the operation' },
} as const satisfies Record<string, { http: number; retryable: boolean; suggestion: string }>;

export type ErrorCode = keyof typeof ERRORS;

export function isErrorCode(code: string | null | undefined): code is ErrorCode {
  return code !== undefined && code !== null && Object.hasOwn(ERRORS, code);
}

/** An expected failure: a code of the table, a sentence for people, facts for programs. */
export class DomainError extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'DomainError';
  }
}

/** What is kept of a failed step, on the operation and on the sandbox. */
export interface Failure {
  /** The step that failed, by its activity name. */
  step: string;
  code: ErrorCode;
  /** What failed, on which host, why. */
  message: string;
  /** Undo steps that failed too: somebody must look. Absent when everything was undone. */
  needsAttention?: string[];
}
