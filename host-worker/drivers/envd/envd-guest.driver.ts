import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CallOptions, type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import type { DescService } from '@bufbuild/protobuf';
import type { Guest, GuestConfig, GuestRun } from '../../../activities/host/ports.js';
import { Process, Signal } from '../../../proto/gen/process/process_pb.js';
import { Guest as GuestService } from '../../../proto/gen/torpor/guest/v1/guest_pb.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { askAgent } from './agent-request.js';
import { OutputTail } from './output-tail.js';

const AGENT_PORT = 49983;

/**
 * A guest that boots drops packets, and TCP repeats a lost one after a whole second
 * only; a new attempt finds it earlier. An accepted connection is worth more patience.
 */
const CONNECT_MS = 250;
const ANSWER_MS = 5_000;
const BACKOFF_MS = { first: 20, last: 100 };

const INIT_MS = 15_000;
/** Trimming a large disk takes its time. */
const QUIESCE_MS = 120_000;
const KILL_MS = 5_000;

const ENTROPY_BYTES = 64;

/** Of one message. The agent's own are far shorter, and what a guest makes this process hold must have an end. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** The agent of `guest/envd`, spoken to directly by its host. */
export class EnvdGuest implements Guest {
  constructor(private readonly port = AGENT_PORT) {}

  async waitReady(address: string, deadlineMs: number, signal?: AbortSignal): Promise<void> {
    const deadline = performance.now() + deadlineMs;
    let backoff = BACKOFF_MS.first;
    for (;;) {
      const left = deadline - performance.now();
      try {
        const limits = { connectMs: Math.min(CONNECT_MS, left), answerMs: Math.min(ANSWER_MS, left) };
        const { status } = await askAgent({
          address,
          port: this.port,
          method: 'GET',
          path: '/health',
          ...limits,
          signal,
        });
        if (status < 300) return;
        throw new Error(`it answered ${status}`);
      } catch (err) {
        signal?.throwIfAborted();
        if (performance.now() + backoff >= deadline) {
          const seconds = (deadlineMs / 1_000).toFixed(1);
          throw new DomainError(
            'guest_unavailable',
            `the agent at ${address} did not answer within ${seconds} s: ${reason(err)}`,
            {},
            { cause: err },
          );
        }
      }
      await sleep(backoff, undefined, signal ? { signal } : {});
      backoff = Math.min(backoff * 1.5, BACKOFF_MS.last);
    }
  }

  async init(address: string, sandboxId: string, config: GuestConfig, signal?: AbortSignal): Promise<void> {
    const json = {
      timestamp: new Date().toISOString(),
      entropy: randomBytes(ENTROPY_BYTES).toString('base64'),
      // A snapshot may come from a machine whose clock was ahead: this is another life, its time counts.
      lifecycleID: randomUUID(),
      sandboxId,
      templateId: config.templateId,
      hostname: sandboxId,
      accessToken: config.accessToken,
      envVars: config.env,
      defaultUser: config.user,
    };
    const { status, body } = await this.#reaching(
      address,
      'init',
      () =>
        askAgent({
          address,
          port: this.port,
          method: 'POST',
          path: '/init',
          json,
          connectMs: ANSWER_MS,
          answerMs: INIT_MS,
          signal,
        }),
      signal,
    );
    if (status >= 300)
      throw new DomainError('guest_failed', `the agent refused init with ${status}: ${body.trim()}`, { status });
  }

  async quiesce(address: string, signal?: AbortSignal): Promise<void> {
    const client = this.#client(GuestService, address);
    await this.#reaching(address, 'quiesce', () => client.quiesce({}, options(QUIESCE_MS, signal)), signal);
  }

  async unquiesce(address: string, signal?: AbortSignal): Promise<void> {
    const client = this.#client(GuestService, address);
    await this.#reaching(address, 'unquiesce', () => client.unquiesce({}, options(INIT_MS, signal)), signal);
  }

  async run(
    address: string,
    accessToken: string,
    command: string,
    maxOutputBytes: number,
    signal?: AbortSignal,
  ): Promise<GuestRun> {
    const headers = {
      'X-Access-Token': accessToken,
      Authorization: `Basic ${Buffer.from('root:').toString('base64')}`,
    };
    const client = this.#client(Process, address);
    const output = new OutputTail(maxOutputBytes);
    const begun = performance.now();
    // Known before the process is: it can be cancelled before its pid has arrived.
    const tag = `torpor-${randomUUID()}`;
    try {
      return await this.#reaching(
        address,
        'run',
        async () => {
          const process = { cmd: '/bin/sh', args: ['-c', command] };
          for await (const { event } of client.start(
            { process, tag, stdin: false },
            { headers, ...(signal ? { signal } : {}) },
          )) {
            const happened = event?.event;
            if (happened?.case === 'data') output.add(happened.value.output.value ?? new Uint8Array());
            if (happened?.case === 'end') {
              const { exitCode, status } = happened.value;
              // A signal leaves no exit code; its name is the only trace.
              if (!happened.value.exited) output.add(Buffer.from(`\n[ended by ${status}]\n`));
              return { exitCode, output: output.text(), durationMs: Math.round(performance.now() - begun) };
            }
          }
          throw new DomainError('guest_failed', 'the agent ended the output of a command without saying how it ended');
        },
        signal,
      );
    } catch (err) {
      // The agent does not end a program whose client goes away, and this one is to be stopped or run again.
      await this.#killGroup(client, tag, headers);
      throw err;
    }
  }

  async #killGroup(client: Client<typeof Process>, tag: string, headers: Record<string, string>): Promise<void> {
    const process = { selector: { case: 'tag' as const, value: tag } };
    try {
      await client.sendSignal({ process, signal: Signal.SIGKILL }, { headers, timeoutMs: KILL_MS });
    } catch {
      // It has ended, or the guest has: the failure that led here says what matters.
    }
  }

  #client<S extends DescService>(service: S, address: string): Client<S> {
    const baseUrl = `http://${address}:${this.port}`;
    // No kept connections, see askAgent.
    return createClient(
      service,
      createConnectTransport({
        httpVersion: '1.1',
        baseUrl,
        nodeOptions: { agent: false },
        readMaxBytes: MAX_MESSAGE_BYTES,
      }),
    );
  }

  /** Tells a guest that cannot be reached from one that answers with a failure. */
  async #reaching<T>(
    address: string,
    what: string,
    call: () => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    try {
      return await call();
    } catch (err) {
      signal?.throwIfAborted();
      if (err instanceof DomainError) throw err;
      const answered = err instanceof ConnectError && !UNREACHED.has(err.code) && !isOfConnection(err.cause);
      const code = answered ? 'guest_failed' : 'guest_unavailable';
      throw new DomainError(code, `${what} of the agent at ${address} failed: ${reason(err)}`, {}, { cause: err });
    }
  }
}

/** How a lost connection or a guest that stands still shows. */
const UNREACHED = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Aborted, Code.Canceled, Code.Unknown]);

/** Connect names few failures of a connection by a code of its own; all of Node's carry a code of Node's, answers do not. */
function isOfConnection(cause: unknown): boolean {
  return typeof (cause as NodeJS.ErrnoException | undefined)?.code === 'string';
}

function options(timeoutMs: number, signal: AbortSignal | undefined): CallOptions {
  return signal ? { timeoutMs, signal } : { timeoutMs };
}

function reason(err: unknown): string {
  if (err instanceof ConnectError) return err.rawMessage;
  return err instanceof Error ? err.message : String(err);
}
