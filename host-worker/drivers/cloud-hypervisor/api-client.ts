import { request, type IncomingMessage } from 'node:http';
import { DomainError } from '../../../workflows/contract/errors.js';
import type { CreateVm, RestoreVm, VmCounters, VmInfo, VmmPing } from './api-types.js';

const ROOT = '/api/v1';
/** Of calls that the VMM answers from what it knows. */
const SHORT_MS = 30_000;
/** Of calls that make or move devices and virtual CPUs. */
const MEDIUM_MS = 120_000;
/** Memory is written and read at what the disk gives; beyond this something hangs. */
const MEMORY_MS = 10 * 60_000;
/** More than it ever says of one VM. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

export interface Wait {
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

/**
 * The HTTP API of one VMM on its unix socket, as far as it is used here. One connection per call, because the VMM serves
 * one call after the other anyway: during a snapshot all others wait. A call that its caller gives up goes on in the VMM.
 */
export class ApiClient {
  constructor(private readonly socketPath: string) {}

  async ping(wait: Wait = {}): Promise<VmmPing> {
    return (await this.#call('GET', 'vmm.ping', undefined, { timeoutMs: SHORT_MS, ...wait })) as VmmPing;
  }

  async info(wait: Wait = {}): Promise<VmInfo> {
    return (await this.#call('GET', 'vm.info', undefined, { timeoutMs: SHORT_MS, ...wait })) as VmInfo;
  }

  async counters(wait: Wait = {}): Promise<VmCounters> {
    return (await this.#call('GET', 'vm.counters', undefined, { timeoutMs: SHORT_MS, ...wait })) as VmCounters;
  }

  async create(vm: CreateVm, wait: Wait = {}): Promise<void> {
    await this.#call('PUT', 'vm.create', vm, { timeoutMs: MEDIUM_MS, ...wait });
  }

  async boot(wait: Wait = {}): Promise<void> {
    await this.#call('PUT', 'vm.boot', undefined, { timeoutMs: MEDIUM_MS, ...wait });
  }

  async restore(from: RestoreVm, wait: Wait = {}): Promise<void> {
    await this.#call('PUT', 'vm.restore', from, { timeoutMs: MEMORY_MS, ...wait });
  }

  async pause(wait: Wait = {}): Promise<void> {
    await this.#call('PUT', 'vm.pause', undefined, { timeoutMs: MEDIUM_MS, ...wait });
  }

  async resume(wait: Wait = {}): Promise<void> {
    await this.#call('PUT', 'vm.resume', undefined, { timeoutMs: MEDIUM_MS, ...wait });
  }

  /** Into a directory that exists and has none of the files that it writes. */
  async snapshot(directory: string, wait: Wait = {}): Promise<void> {
    const body = { destination_url: `file://${directory}` };
    await this.#call('PUT', 'vm.snapshot', body, { timeoutMs: MEMORY_MS, ...wait });
  }

  /** `desired_balloon`: bytes that the guest is asked to give back. */
  async resize(to: { desired_balloon: number }, wait: Wait = {}): Promise<void> {
    await this.#call('PUT', 'vm.resize', to, { timeoutMs: MEDIUM_MS, ...wait });
  }

  /** Ends the VM and the process. */
  async shutdown(wait: Wait = {}): Promise<void> {
    await this.#call('PUT', 'vmm.shutdown', undefined, { timeoutMs: SHORT_MS, ...wait });
  }

  #call(method: 'GET' | 'PUT', name: string, body: unknown, wait: Wait & { timeoutMs: number }): Promise<unknown> {
    const { timeoutMs, signal } = wait;
    const json = body === undefined ? '' : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const deadline = AbortSignal.timeout(timeoutMs);
      const asked = request({
        socketPath: this.socketPath,
        path: `${ROOT}/${name}`,
        method,
        agent: false,
        headers: {
          host: 'localhost',
          accept: 'application/json',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          'content-length': Buffer.byteLength(json),
        },
        signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
      });
      const fail = (cause: unknown): void => {
        if (signal?.aborted === true) reject(signal.reason as Error);
        else if (deadline.aborted) reject(this.#late(name, timeoutMs));
        else reject(this.#unreachable(name, cause));
      };
      asked.on('error', fail);
      asked.on('response', (answer) => {
        answered(answer).then(({ status, text }) => {
          try {
            resolve(understood(name, status, text));
          } catch (err) {
            reject(err instanceof Error ? err : new Error(String(err)));
          }
        }, fail);
      });
      asked.end(json);
      return undefined;
    });
  }

  #late(name: string, timeoutMs: number): DomainError {
    return new DomainError(
      'timeout',
      `Cloud Hypervisor did not answer ${name} on ${this.socketPath} within ${timeoutMs} ms`,
    );
  }

  #unreachable(name: string, cause: unknown): DomainError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new DomainError(
      'command_failed',
      `Cloud Hypervisor did not answer ${name} on ${this.socketPath}: ${reason}`,
      {},
      { cause },
    );
  }
}

async function answered(answer: IncomingMessage): Promise<{ status: number; text: string }> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return { status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') };
}

function understood(name: string, status: number, text: string): unknown {
  if (status < 200 || status >= 300) {
    throw new DomainError('command_failed', `Cloud Hypervisor refused ${name}: ${reasonIn(text)}`, { status });
  }
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DomainError('command_failed', `Cloud Hypervisor answered ${name} with what is not JSON`, {}, { cause });
  }
}

/** A refusal is the list of what failed, each because of the next. */
function reasonIn(text: string): string {
  try {
    const parsed: unknown = JSON.parse(text);
    if (Array.isArray(parsed)) return parsed.map(String).join(': ');
  } catch {
    // Then it says it in its own words.
  }
  return text === '' ? 'no reason given' : text;
}
