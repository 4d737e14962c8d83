import { Agent } from 'node:http';
import { Code, ConnectError, createClient, type Client, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { Process, Signal } from '../../proto/gen/process/process_pb.js';
import { DomainError } from '../../workflows/contract/errors.js';
import { GUEST_AUTHORIZATION, type GuestDoor } from '../host/host-data-plane.js';
import { OutputBuffer } from './output-buffer.js';

/** A program to run to its end in a guest. */
export interface Program {
  /** Names the process in the guest, unlike a pid before it is known and never reused. */
  tag: string;
  argv: readonly [string, ...string[]];
  cwd: string | undefined;
  env: Record<string, string>;
  user: string | undefined;
  stdin: Uint8Array | null;
  timeoutMs: number;
  maxOutputBytes: number;
}

export interface ProgramResult {
  exitCode: number;
  output: OutputBuffer;
  timedOut: boolean;
}

const INPUT_CHUNK = 256 * 1024;
/** How long the end of a killed program may take to be told. */
const KILL_GRACE_MS = 5_000;

/** Shorter than the data plane keeps idle connections, so that a call never begins on one that just closes. */
const agent = new Agent({ keepAlive: true, timeout: 30_000 });

/** Runs a program by the guest's agent, through its host's data plane. Never through Temporal. */
export async function runProgram(door: GuestDoor, accessToken: string, program: Program): Promise<ProgramResult> {
  const client = clientOf(door, accessToken, program.user);
  const output = new OutputBuffer(program.maxOutputBytes);
  const ended = new AbortController();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    void kill(client, program.tag);
    setTimeout(() => ended.abort(), KILL_GRACE_MS).unref();
  }, program.timeoutMs);
  try {
    const exitCode = await follow(client, program, output, ended.signal);
    return { exitCode: timedOut ? -1 : exitCode, output, timedOut };
  } catch (error) {
    if (timedOut) return { exitCode: -1, output, timedOut };
    throw asDomainError(error, program.user);
  } finally {
    clearTimeout(timer);
    ended.abort();
  }
}

function clientOf(door: GuestDoor, accessToken: string, user: string | undefined): Client<typeof Process> {
  const authenticate: Interceptor = (next) => (request) => {
    request.header.set('authorization', door.authorization);
    request.header.set('x-access-token', accessToken);
    if (user !== undefined) {
      request.header.set(GUEST_AUTHORIZATION, `Basic ${Buffer.from(`${user}:`).toString('base64')}`);
    }
    return next(request);
  };
  const transport = createConnectTransport({
    baseUrl: door.baseUrl,
    httpVersion: '1.1',
    useBinaryFormat: true,
    interceptors: [authenticate],
    nodeOptions: { agent },
  });
  return createClient(Process, transport);
}

async function follow(
  client: Client<typeof Process>,
  program: Program,
  output: OutputBuffer,
  signal: AbortSignal,
): Promise<number> {
  const [cmd, ...args] = program.argv;
  const { cwd, env, tag, stdin } = program;
  const events = client.start(
    { process: { cmd, args, envs: env, ...(cwd === undefined ? {} : { cwd }) }, tag, stdin: stdin !== null },
    // The guest kills the program at this deadline even if this process is gone by then. As a
    // header: the client's own option would keep a timer until then, long after the program ended.
    { headers: { 'connect-timeout-ms': String(program.timeoutMs + KILL_GRACE_MS) }, signal },
  );
  for await (const { event } of events) {
    switch (event?.event.case) {
      case 'start':
        if (stdin !== null) void feed(client, tag, stdin, signal);
        break;
      case 'data':
        if (event.event.value.droppedBytes > 0n) output.truncated = true;
        else append(output, event.event.value.output);
        break;
      case 'end':
        return event.event.value.exitCode;
      case 'keepalive':
      case undefined:
        break;
    }
  }
  throw new DomainError('guest_unavailable', 'the guest ended the connection before the program ended');
}

function append(
  output: OutputBuffer,
  data: { case: 'stdout' | 'stderr' | 'pty'; value: Uint8Array } | { case: undefined },
): void {
  if (data.case === undefined) return;
  output.append(data.case === 'stderr' ? 'stderr' : 'stdout', data.value);
}

/** A program need not read its input: whatever goes wrong here, its exit code tells. */
async function feed(
  client: Client<typeof Process>,
  tag: string,
  stdin: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const process = { selector: { case: 'tag', value: tag } } as const;
  try {
    for (let offset = 0; offset < stdin.length; offset += INPUT_CHUNK) {
      const value = stdin.subarray(offset, offset + INPUT_CHUNK);
      await client.sendInput({ process, input: { input: { case: 'stdin', value } } }, { signal });
    }
    await client.closeStdin({ process }, { signal });
  } catch {
    // Ended or closed its input.
  }
}

/** Every process of the program's session, whatever it started. */
async function kill(client: Client<typeof Process>, tag: string): Promise<void> {
  const process = { selector: { case: 'tag', value: tag } } as const;
  // Fails when the program has just ended, and when the guest is gone: the stream tells either.
  await client.sendSignal({ process, signal: Signal.SIGKILL }, { timeoutMs: KILL_GRACE_MS }).catch(() => undefined);
}

function asDomainError(error: unknown, user: string | undefined): Error {
  if (error instanceof DomainError) return error;
  const failure = ConnectError.from(error);
  const reason = failure.rawMessage;
  switch (failure.code) {
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.FailedPrecondition:
    case Code.PermissionDenied:
      return new DomainError('invalid_request', `the guest cannot run this: ${reason}`, {}, { cause: error });
    case Code.Unauthenticated:
      if (user !== undefined)
        return new DomainError('invalid_request', `user: ${reason}`, { fields: ['user'] }, { cause: error });
      return new DomainError('guest_failed', `the guest refused its access token: ${reason}`, {}, { cause: error });
    default:
      return new DomainError('guest_unavailable', `the guest does not answer: ${reason}`, {}, { cause: error });
  }
}
