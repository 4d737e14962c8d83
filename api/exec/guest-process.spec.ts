import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Code, ConnectError, type ConnectRouter, type ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Process, Signal } from '../../proto/gen/process/process_pb.js';
import { runProgram, type Program } from './guest-process.js';

type Agent = Partial<ServiceImpl<typeof Process>>;

let server: Server;
let agent: Agent;
let headers: Headers | undefined;

beforeEach(async () => {
  agent = {};
  headers = undefined;
  const routes = (router: ConnectRouter): void => {
    router.service(Process, {
      start: (request, context) => {
        headers = context.requestHeader;
        if (!agent.start) throw new ConnectError('no start', Code.Unimplemented);
        return agent.start(request, context);
      },
      sendInput: async (request, context) => (await agent.sendInput?.(request, context)) ?? {},
      closeStdin: async (request, context) => (await agent.closeStdin?.(request, context)) ?? {},
      sendSignal: async (request, context) => (await agent.sendSignal?.(request, context)) ?? {},
    });
  };
  server = createServer(connectNodeAdapter({ routes, requestPathPrefix: '/guest' }));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function run(changes: Partial<Program> = {}): ReturnType<typeof runProgram> {
  const door = {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/guest`,
    authorization: 'Bearer plane',
  };
  return runProgram(door, 'guest-token', {
    tag: 'exec-1',
    argv: ['/bin/true'],
    cwd: undefined,
    env: {},
    user: undefined,
    stdin: null,
    timeoutMs: 5_000,
    maxOutputBytes: 1024,
    ...changes,
  });
}

const started = { event: { event: { case: 'start', value: { pid: 7 } } } } as const;
const printed = (text: string) =>
  ({ event: { event: { case: 'data', value: { output: { case: 'stdout', value: Buffer.from(text) } } } } }) as const;
const ended = (exitCode: number) => ({ event: { event: { case: 'end', value: { exitCode, exited: true } } } }) as const;

describe('programs in a guest', () => {
  it('are started with what was asked for and end with their exit code', async () => {
    let asked: unknown;
    agent.start = async function* (request) {
      asked = request;
      yield started;
      yield printed('hi');
      yield ended(3);
    };
    const { exitCode, output, timedOut } = await run({
      argv: ['/bin/ls', '-l'],
      cwd: '/srv',
      env: { A: 'b' },
      user: 'root',
    });
    expect({ exitCode, timedOut, ...output.encode() }).toEqual({
      exitCode: 3,
      timedOut: false,
      stdout: 'hi',
      stderr: '',
      encoding: 'utf-8',
    });
    expect(asked).toMatchObject({
      process: { cmd: '/bin/ls', args: ['-l'], cwd: '/srv', envs: { A: 'b' } },
      tag: 'exec-1',
      stdin: false,
    });
    expect(headers?.get('authorization')).toBe('Bearer plane');
    expect(headers?.get('x-access-token')).toBe('guest-token');
    expect(headers?.get('x-torpor-guest-authorization')).toBe(`Basic ${Buffer.from('root:').toString('base64')}`);
    // The guest kills it even if this process does not live that long.
    expect(Number(headers?.get('connect-timeout-ms'))).toBeGreaterThan(5_000);
  });

  it('get their whole input, in order, and its end', async () => {
    const input: Buffer[] = [];
    let inputEnded!: () => void;
    const end = new Promise<void>((resolve) => (inputEnded = resolve));
    agent.start = async function* () {
      yield started;
      await end;
      yield ended(0);
    };
    agent.sendInput = ({ input: sent }) => {
      if (sent?.input.case === 'stdin') input.push(Buffer.from(sent.input.value));
      return {};
    };
    agent.closeStdin = () => {
      inputEnded();
      return {};
    };
    const stdin = Buffer.from(Array.from({ length: 600_000 }, (_, i) => i % 251));
    await run({ stdin });
    expect(Buffer.concat(input).equals(stdin)).toBe(true);
  });

  it('are killed at their deadline with everything they started, and what they printed is kept', async () => {
    let killed!: () => void;
    const kill = new Promise<void>((resolve) => (killed = resolve));
    const signals: unknown[] = [];
    agent.start = async function* () {
      yield started;
      yield printed('before');
      await kill;
      yield ended(-1);
    };
    agent.sendSignal = ({ signal, leaderOnly, process }) => {
      signals.push({ signal, leaderOnly, tag: process?.selector.value });
      killed();
      return {};
    };
    const { exitCode, timedOut, output } = await run({ timeoutMs: 100 });
    expect({ exitCode, timedOut, stdout: output.encode().stdout }).toEqual({
      exitCode: -1,
      timedOut: true,
      stdout: 'before',
    });
    expect(signals).toEqual([{ signal: Signal.SIGKILL, leaderOnly: false, tag: 'exec-1' }]);
  });

  it('say that output was lost, whoever lost it', async () => {
    agent.start = async function* () {
      yield started;
      yield {
        event: {
          event: {
            case: 'data',
            value: { output: { case: 'stdout', value: Buffer.from('[lost]') }, droppedBytes: 9n },
          },
        },
      };
      yield ended(0);
    };
    const { output } = await run();
    expect({ truncated: output.truncated, ...output.encode() }).toMatchObject({ truncated: true, stdout: '' });
  });

  it.each([
    [Code.InvalidArgument, undefined, 'invalid_request'],
    [Code.Unauthenticated, 'nobody', 'invalid_request'],
    [Code.Unauthenticated, undefined, 'guest_failed'],
    [Code.Internal, undefined, 'guest_unavailable'],
    [Code.Unavailable, undefined, 'guest_unavailable'],
  ])('that cannot start: agent code %s, user %s is %s', async (code, user, expected) => {
    agent.start = async function* () {
      yield* [];
      throw new ConnectError('why', code);
    };
    await expect(run({ user })).rejects.toMatchObject({ code: expected, message: expect.stringContaining('why') });
  });

  it('whose agent vanishes are no success', async () => {
    agent.start = async function* () {
      yield started;
      server.closeAllConnections();
    };
    await expect(run()).rejects.toMatchObject({ code: 'guest_unavailable' });
    agent.start = async function* () {
      yield started;
    };
    await expect(run()).rejects.toMatchObject({ code: 'guest_unavailable' });
  });
});
