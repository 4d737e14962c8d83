import { Injectable } from '@nestjs/common';
import { Client, isGrpcServiceError, ServiceError } from '@temporalio/client';
import { DomainError } from '../../workflows/contract/errors.js';

const FIRST_PROBE_MS = 1_000;
const PROBE_EVERY_MS = 3_000;
const PROBE_DEADLINE_MS = 1_500;

/**
 * Calls to Temporal that may rightly take long, made so that a server that is down is
 * noticed within seconds: while one is pending, the server is asked whether it lives.
 */
@Injectable()
export class TemporalCalls {
  constructor(private readonly client: Client) {}

  /** Rejects with `control_plane_unavailable` when Temporal does not answer; everything else passes through. */
  async watched<T>(limitMs: number, call: () => Promise<T>): Promise<T> {
    const abort = new AbortController();
    let outage: string | null = null;
    let timer: NodeJS.Timeout;
    const probe = async (): Promise<void> => {
      outage = await this.outage();
      if (outage !== null) abort.abort();
      else if (!ended) timer = setTimeout(() => void probe(), PROBE_EVERY_MS);
    };
    let ended = false;
    timer = setTimeout(() => void probe(), FIRST_PROBE_MS);
    try {
      return await this.client.withAbortSignal(abort.signal, () =>
        this.client.withDeadline(Date.now() + limitMs, call),
      );
    } catch (error) {
      throw asOutage(error, outage) ?? error;
    } finally {
      ended = true;
      clearTimeout(timer);
    }
  }

  /** For calls that answer at once or not at all. */
  brief<T>(call: () => Promise<T>): Promise<T> {
    return this.watched(5_000, call);
  }

  /** Why Temporal does not answer; null when it does. */
  async outage(): Promise<string | null> {
    try {
      await this.client.withDeadline(Date.now() + PROBE_DEADLINE_MS, () =>
        this.client.workflowService.getSystemInfo({}),
      );
      return null;
    } catch (error) {
      return reasonOf(error);
    }
  }
}

function reasonOf(error: unknown): string {
  if (isGrpcServiceError(error)) return error.details || error.message;
  return error instanceof Error ? error.message : String(error);
}

/** gRPC status codes of a server that cannot be reached; 14 is UNAVAILABLE. */
const UNAVAILABLE = 14;

function asOutage(error: unknown, outage: string | null): DomainError | null {
  const cause = error instanceof ServiceError ? error.cause : error;
  const reason = outage ?? (isGrpcServiceError(cause) && cause.code === UNAVAILABLE ? reasonOf(cause) : null);
  if (reason === null) return null;
  return new DomainError(
    'control_plane_unavailable',
    `Temporal does not answer: ${reason}`,
    { part: 'temporal', reason },
    {
      cause: error,
    },
  );
}
