import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { request, type IncomingMessage } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { type Client, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { Process, Signal } from '../../proto/gen/process/process_pb.js';

export type OutputStream = 'stdout' | 'stderr';

export interface RunOptions {
  cwd?: string;
  env?: Readonly<Record<string, string>>;
  /** Both streams, as they come. */
  onOutput?: (bytes: Uint8Array, stream: OutputStream) => void;
  /** Kills the program and all of its session. */
  signal?: AbortSignal;
  /** Ends a program that hangs, as `signal` does. */
  timeoutMs?: number;
  /** Fails when the program ends with anything but 0; what it said is in the message. */
  check?: boolean;
}

export interface RunResult {
  /** What a shell would say: 128 and more for a program that a signal ended. */
  exitCode: number;
  stdout: string;
  stderr: string;
}

const KILL_MS = 10_000;
/** In the message of a failed command. */
const SHOWN_CHARACTERS = 4_000;

/** The lab's `PATH`: programs that were put in, then the distribution's. */
const LAB_PATH = '/torpor/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Runs programs in a lab and moves files, through the agent that runs there as it runs in guests. */
export class LabAgent {
  readonly client: Client<typeof Process>;
  readonly #base: string;

  constructor(readonly port: number) {
    this.#base = `http://127.0.0.1:${port}`;
    // A connection per call: the machine at the other end may lose its power between two.
    this.client = createClient(
      Process,
      createConnectTransport({ httpVersion: '1.1', baseUrl: this.#base, nodeOptions: { agent: false } }),
    );
  }

  /** A string is a script for bash, anything else a program and its arguments. */
  async run(command: string | readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const [cmd = '', ...args] = typeof command === 'string' ? ['/bin/bash', '-c', command] : command;
    const tag = `lab-${randomUUID()}`;
    const process = { cmd, args, cwd: options.cwd ?? '/torpor/tree', envs: { ...LAB_ENVIRONMENT, ...options.env } };
    const deadline = options.timeoutMs === undefined ? [] : [AbortSignal.timeout(options.timeoutMs)];
    const signal = AbortSignal.any([...(options.signal ? [options.signal] : []), ...deadline]);
    try {
      const result = await this.#follow(
        this.client.start({ process, tag, stdin: false }, { headers: AS_ROOT, signal }),
        options,
      );
      if (options.check === true && result.exitCode !== 0) throw failed(command, result);
      return result;
    } catch (err) {
      if (!signal.aborted) throw err;
      await this.#kill(tag);
      throw new Error(`${shown(command)} was ended in the lab: ${String(signal.reason)}`, { cause: err });
    }
  }

  async #follow(events: ReturnType<Client<typeof Process>['start']>, { onOutput }: RunOptions): Promise<RunResult> {
    const chunks: Record<OutputStream, Uint8Array[]> = { stdout: [], stderr: [] };
    for await (const { event } of events) {
      const happened = event?.event;
      if (happened?.case === 'data') {
        const { case: stream, value } = happened.value.output;
        if (stream !== 'stdout' && stream !== 'stderr') continue;
        chunks[stream].push(value);
        onOutput?.(value, stream);
      }
      if (happened?.case === 'end') {
        const [stdout, stderr] = [text(chunks.stdout), text(chunks.stderr)];
        if (happened.value.exited) return { exitCode: happened.value.exitCode, stdout, stderr };
        return { exitCode: 128, stdout, stderr: `${stderr}\n[ended by ${happened.value.status}]\n` };
      }
    }
    throw new Error('the agent of the lab ended the output of a program without saying how that ended');
  }

  async #kill(tag: string): Promise<void> {
    const process = { selector: { case: 'tag' as const, value: tag } };
    // It may have ended, or the machine may have.
    await this.client
      .sendSignal({ process, signal: Signal.SIGKILL }, { headers: AS_ROOT, timeoutMs: KILL_MS })
      .catch(() => undefined);
  }

  async putFile(local: string, inLab: string): Promise<void> {
    const { size } = await stat(local);
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(size) };
    const answer = await this.#files('POST', inLab, headers, async (body) => pipeline(createReadStream(local), body));
    answer.resume();
  }

  async getFile(inLab: string, local: string): Promise<void> {
    await pipeline(await this.#files('GET', inLab), createWriteStream(local));
  }

  async #files(
    method: 'GET' | 'POST',
    path: string,
    headers: Record<string, string> = {},
    send?: (body: NodeJS.WritableStream) => Promise<void>,
  ): Promise<IncomingMessage> {
    const url = `${this.#base}/files?${new URLSearchParams({ path, username: 'root' }).toString()}`;
    const call = request(url, { method, headers, agent: false });
    const answered = new Promise<IncomingMessage>((resolve, reject) =>
      call.once('response', resolve).once('error', reject),
    );
    if (send === undefined) call.end();
    else await send(call);
    const answer = await answered;
    if ((answer.statusCode ?? 0) < 300) return answer;
    const chunks: Buffer[] = [];
    for await (const chunk of answer) chunks.push(chunk as Buffer);
    throw new Error(`${method} of the lab's file ${path} was answered ${answer.statusCode}: ${text(chunks).trim()}`);
  }
}

export const LAB_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: LAB_PATH,
  HOME: '/root',
  LANG: 'C.UTF-8',
  TERM: 'dumb',
};

/** The agent takes the user as the name of basic authentication. */
export const AS_ROOT = { Authorization: `Basic ${Buffer.from('root:').toString('base64')}` };

function text(chunks: readonly Uint8Array[]): string {
  return Buffer.concat(chunks).toString();
}

function shown(command: string | readonly string[]): string {
  return typeof command === 'string' ? command.trim() : command.join(' ');
}

function failed(command: string | readonly string[], { exitCode, stdout, stderr }: RunResult): Error {
  const output = `${stdout}${stderr}`.trim().slice(-SHOWN_CHARACTERS);
  return new Error(`in the lab, this ended with ${exitCode}: ${shown(command)}\n${output}`);
}
