import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { Code, ConnectError } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Process, Signal } from '../../../proto/gen/process/process_pb.js';
import { Guest } from '../../../proto/gen/torpor/guest/v1/guest_pb.js';
import { EnvdGuest } from './envd-guest.driver.js';
import { OutputTail } from './output-tail.js';

const ADDRESS = '127.0.0.1';
const config = { accessToken: 'secret', env: { A: '1' }, templateId: 't1', user: 'user' };

let agent: Server;
let guest: EnvdGuest;
let onHttp: (req: IncomingMessage, body: string, res: ServerResponse) => void;
let onStart: () => AsyncIterable<object>;
let started: { headers: Headers; args: string[]; tag: string | undefined }[];
let killed: { tag: unknown; signal: Signal }[];
let quiesce: () => object;

beforeEach(async () => {
  started = [];
  killed = [];
  quiesce = () => ({});
  const rpc = connectNodeAdapter({
    routes: (router) => {
      router.service(Guest, { quiesce: () => quiesce(), unquiesce: () => ({}) });
      router.service(Process, {
        async *start(request, { requestHeader }) {
          started.push({ headers: requestHeader, args: request.process?.args ?? [], tag: request.tag });
          yield* onStart();
        },
        sendSignal: (request) => {
          killed.push({ tag: request.process?.selector.value, signal: request.signal });
          return {};
        },
      });
    },
    fallback: (req, res) => {
      let body = '';
      req.on('data', (chunk: Buffer) => (body += chunk.toString()));
      req.on('end', () => onHttp(req as IncomingMessage, body, res as ServerResponse));
    },
  });
  agent = createServer(rpc);
  await new Promise<void>((resolve) => agent.listen(0, ADDRESS, resolve));
  guest = new EnvdGuest((agent.address() as AddressInfo).port);
});

afterEach(async () => {
  agent.closeAllConnections();
  await new Promise((resolve) => agent.close(resolve));
});

const event = (happened: object) => ({ event: { event: happened } });
const out = (text: string) => event({ case: 'data', value: { output: { case: 'stdout', value: Buffer.from(text) } } });
const end = (value: object) => event({ case: 'end', value: { exited: true, status: 'exited', ...value } });
const began = event({ case: 'start', value: { pid: 7 } });

describe('waiting for the agent', () => {
  it('tries until it answers well', async () => {
    let asked = 0;
    onHttp = (_, __, res) => {
      asked += 1;
      res.writeHead(asked < 3 ? 503 : 204).end();
    };
    await guest.waitReady(ADDRESS, 5_000);
    expect(asked).toBe(3);
  });

  it('gives up at its deadline, saying why', async () => {
    await expect(new EnvdGuest(1).waitReady(ADDRESS, 100)).rejects.toMatchObject({
      code: 'guest_unavailable',
      message: expect.stringMatching(/did not answer within 0\.1 s: .*ECONNREFUSED/),
    });
  });

  it('stops when it is told to', async () => {
    const abort = new AbortController();
    const waiting = new EnvdGuest(1).waitReady(ADDRESS, 60_000, abort.signal);
    abort.abort(new Error('cancelled'));
    await expect(waiting).rejects.toThrow();
  });
});

describe('init', () => {
  it('gives clock, entropy, identity, environment, token and user', async () => {
    let got: Record<string, unknown> = {};
    onHttp = (req, body, res) => {
      expect(req.url).toBe('/init');
      got = JSON.parse(body) as Record<string, unknown>;
      res.writeHead(204).end();
    };
    await guest.init(ADDRESS, 's1', config);
    expect(got).toMatchObject({
      sandboxId: 's1',
      hostname: 's1',
      templateId: 't1',
      accessToken: 'secret',
      envVars: { A: '1' },
      defaultUser: 'user',
    });
    expect(Math.abs(Date.parse(String(got['timestamp'])) - Date.now())).toBeLessThan(5_000);
    expect(Buffer.from(String(got['entropy']), 'base64')).toHaveLength(64);
  });

  it('tells a refusal from an absence', async () => {
    onHttp = (_, __, res) => res.writeHead(500).end('clock');
    await expect(guest.init(ADDRESS, 's1', config)).rejects.toMatchObject({
      code: 'guest_failed',
      message: 'the agent refused init with 500: clock',
    });
    await expect(new EnvdGuest(1).init(ADDRESS, 's1', config)).rejects.toMatchObject({ code: 'guest_unavailable' });
  });
});

describe('quiesce', () => {
  it('fails as the agent says', async () => {
    await guest.quiesce(ADDRESS);
    await guest.unquiesce(ADDRESS);
    quiesce = () => {
      throw new ConnectError('sync failed', Code.Internal);
    };
    await expect(guest.quiesce(ADDRESS)).rejects.toMatchObject({
      code: 'guest_failed',
      message: expect.stringContaining('sync failed'),
    });
  });
});

describe('a guest that is not there', () => {
  it('is told from one that refuses, whichever way the connection fails', async () => {
    const broken = createTcpServer((socket) => {
      socket.on('error', () => undefined);
      socket.resume().end('this is not HTTP\r\n\r\n');
    });
    await new Promise<void>((resolve) => broken.listen(0, ADDRESS, resolve));
    const port = (broken.address() as AddressInfo).port;
    for (const absent of [new EnvdGuest(1), new EnvdGuest(port)]) {
      await expect(absent.quiesce(ADDRESS)).rejects.toMatchObject({ code: 'guest_unavailable' });
      await expect(absent.run(ADDRESS, 'secret', 'true', 10)).rejects.toMatchObject({ code: 'guest_unavailable' });
    }
    await new Promise((resolve) => broken.close(resolve));
  });
});

describe('a set-up command', () => {
  it('runs in a shell as root and gives its outcome', async () => {
    onStart = async function* () {
      yield* [began, out('one\n'), out('two\n'), end({ exitCode: 3 })];
    };
    expect(await guest.run(ADDRESS, 'secret', 'make all', 1_000)).toMatchObject({ exitCode: 3, output: 'one\ntwo\n' });
    expect(started[0]?.args).toEqual(['-c', 'make all']);
    expect(started[0]?.headers.get('x-access-token')).toBe('secret');
    expect(started[0]?.headers.get('authorization')).toBe(`Basic ${Buffer.from('root:').toString('base64')}`);
    expect(killed).toEqual([]);
  });

  it('is killed in the guest when it is cancelled', async () => {
    const abort = new AbortController();
    onStart = async function* () {
      yield began;
      abort.abort(new Error('cancelled'));
      await new Promise(() => {});
    };
    await expect(guest.run(ADDRESS, 'secret', 'sleep 9', 1_000, abort.signal)).rejects.toThrow('cancelled');
    expect(killed).toEqual([{ tag: started[0]?.tag, signal: Signal.SIGKILL }]);
    expect(started[0]?.tag).toMatch(/^torpor-/);
  });

  it('says which signal ended it', async () => {
    onStart = async function* () {
      yield* [began, end({ exitCode: -1, exited: false, status: 'signal: killed' })];
    };
    expect(await guest.run(ADDRESS, 'secret', 'x', 1_000)).toMatchObject({
      exitCode: -1,
      output: '\n[ended by signal: killed]\n',
    });
  });
});

describe('the connections of the driver', () => {
  it('are new for each call: the guest behind an address is frozen, restored and replaced', async () => {
    const sockets: Socket[] = [];
    agent.on('connection', (socket) => sockets.push(socket));
    onHttp = (_, __, res) => res.writeHead(204).end();
    onStart = async function* () {
      yield* [began, end({ exitCode: 0 })];
    };
    await guest.waitReady(ADDRESS, 5_000);
    await guest.init(ADDRESS, 's1', config);
    await guest.quiesce(ADDRESS);
    await guest.unquiesce(ADDRESS);
    await guest.run(ADDRESS, 'secret', 'true', 1_000);
    expect(sockets).toHaveLength(5);
    const open = sockets.filter((socket) => !socket.closed);
    await Promise.all(open.map((socket) => new Promise((resolve) => socket.once('close', resolve))));
  });
});

describe('the tail of output', () => {
  it('keeps the last bytes and counts the others', () => {
    const tail = new OutputTail(5);
    for (const chunk of ['abc', 'def', 'g']) tail.add(Buffer.from(chunk));
    expect(tail.text()).toBe('[2 bytes before this were left out]\ncdefg');
    tail.add(Buffer.from('0123456789'));
    expect(tail.text()).toBe('[12 bytes before this were left out]\n56789');
  });
});
