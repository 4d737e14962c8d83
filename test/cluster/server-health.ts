import { setTimeout as delay } from 'node:timers/promises';
import { Connection } from '@temporalio/client';

const FRONTEND = 'temporal.api.workflowservice.v1.WorkflowService';
/** HealthCheckResponse.ServingStatus.SERVING of gRPC's health protocol. */
const SERVING = 1;
/** Of one attempt; what an abandoned one leaves behind lasts no longer. */
const ATTEMPT_MS = 1_000;
const PAUSE_MS = 50;

/**
 * Resolves when a server of Temporal says that it serves. Nothing announces that, so it is asked
 * again and again. Ends soon after the signal: there may be nobody left to wait for.
 */
export async function untilServing(address: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const obstacle = await obstacleTo(address);
    if (obstacle === undefined) return;
    signal.throwIfAborted();
    if (Date.now() > deadline) throw new Error(`Temporal at ${address} does not serve: ${obstacle}`);
    await delay(PAUSE_MS, undefined, { signal });
  }
}

async function obstacleTo(address: string): Promise<string | undefined> {
  // gRPC's own pauses between attempts to connect begin at a second and grow.
  const channelArgs = { 'grpc.initial_reconnect_backoff_ms': PAUSE_MS, 'grpc.max_reconnect_backoff_ms': PAUSE_MS };
  const connection = Connection.lazy({ address, channelArgs, connectTimeout: ATTEMPT_MS });
  try {
    await connection.ensureConnected();
    const { status } = await connection.withDeadline(Date.now() + ATTEMPT_MS, () =>
      connection.healthService.check({ service: FRONTEND }),
    );
    return status === SERVING ? undefined : `its health is ${String(status)}`;
  } catch (error) {
    return (error as Error).message;
  } finally {
    await connection.close();
  }
}
