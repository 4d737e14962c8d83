import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { HostDataPlane } from '../host/host-data-plane.js';
import type { SandboxRepository } from '../sandbox/sandbox.repository.js';
import { EdgeProxy } from './edge.proxy.js';

let plane: Server;
let edge: Server;
let seen: { url: string; headers: IncomingMessage['headers'] }[];
let answer: (request: IncomingMessage, respond: (status: number, body: string) => void) => void;

const listen = async (server: Server): Promise<number> => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
};
const close = (server: Server): Promise<unknown> => {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
};

beforeEach(async () => {
  seen = [];
  answer = (_, respond) => respond(200, 'hello');
  plane = createServer((incoming, response) => {
    seen.push({ url: incoming.url ?? '', headers: incoming.headers });
    answer(incoming, (status, body) => response.writeHead(status, { 'x-guest': 'yes' }).end(body));
  });
  plane.on('upgrade', (incoming, socket) => {
    seen.push({ url: incoming.url ?? '', headers: incoming.headers });
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.pipe(socket);
  });
  const planePort = await listen(plane);
  const proxy = new EdgeProxy(
    { hostOfRunning: async (id: string) => (id === 'runs' ? 'host' : null) } as SandboxRepository,
    {
      door: async (_: string, id: string, port: number) => ({
        baseUrl: `http://127.0.0.1:${planePort}/sandboxes/${id}/ports/${port}`,
        authorization: 'Bearer data-plane',
      }),
    } as HostDataPlane,
  );
  edge = createServer((incoming, response) => void proxy.serve(incoming, response));
  edge.on('upgrade', (incoming, socket, head) => void proxy.serveUpgrade(incoming, socket, head));
  await listen(edge);
});

afterEach(async () => {
  await close(edge);
  await close(plane);
});

const edgePort = (): number => (edge.address() as AddressInfo).port;

function ask(
  path: string,
  headers: Record<string, string>,
  body = '',
): Promise<{ status: number; text: string; headers: object }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ port: edgePort(), host: '127.0.0.1', path, method: 'POST', headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
      response.on('error', reject);
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

describe('edge', () => {
  it('streams to the data plane of the host, and keeps our tokens and keys apart from the guest’s', async () => {
    answer = (incoming, respond) => {
      let bytes = 0;
      incoming.on('data', (chunk: Buffer) => (bytes += chunk.length));
      incoming.on('end', () => respond(201, String(bytes)));
    };
    const headers = {
      'e2b-sandbox-id': 'runs',
      authorization: 'Basic dXNlcjo=',
      'x-api-key': 'tpr_x',
      'x-access-token': 'guest',
    };
    const result = await ask('/files?path=%2Fa%20b', headers, 'x'.repeat(300_000));
    expect(result).toMatchObject({ status: 201, text: '300000', headers: { 'x-guest': 'yes' } });
    expect(seen).toHaveLength(1);
    expect(seen[0]?.url).toBe('/sandboxes/runs/ports/49983/files?path=%2Fa%20b');
    expect(seen[0]?.headers).toMatchObject({
      authorization: 'Bearer data-plane',
      'x-torpor-guest-authorization': 'Basic dXNlcjo=',
      'x-access-token': 'guest',
    });
    expect(Object.keys(seen[0]?.headers ?? {})).not.toEqual(expect.arrayContaining(['x-api-key']));
    expect(seen[0]?.headers['e2b-sandbox-id']).toBeUndefined();
  });

  it('takes no guest authorization that pretends to be ours', async () => {
    await ask('/', { 'e2b-sandbox-id': 'runs', 'x-torpor-guest-authorization': 'Basic cm9vdDo=' });
    expect(seen[0]?.headers['x-torpor-guest-authorization']).toBeUndefined();
  });

  it('passes on upgraded connections, both ways', async () => {
    const socket = connect(edgePort(), '127.0.0.1');
    socket.write(
      'GET /ws HTTP/1.1\r\nHost: x\r\nE2b-Sandbox-Id: runs\r\nE2b-Sandbox-Port: 3000\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
    );
    let text = '';
    await new Promise<void>((resolve) => {
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.endsWith('\r\n\r\n')) socket.write('there and back');
        if (text.endsWith('there and back')) resolve();
      });
    });
    socket.destroy();
    expect(text).toMatch(/^HTTP\/1\.1 101 /);
    expect(seen[0]?.url).toBe('/sandboxes/runs/ports/3000/ws');
  });

  it('answers 502 for what does not run, 404 for what only hosts may ask, 400 for what is malformed', async () => {
    expect(await ask('/', { 'e2b-sandbox-id': 'gone' })).toMatchObject({
      status: 502,
      text: JSON.stringify({ sandboxId: 'gone', message: 'The sandbox was not found', code: 502 }),
    });
    expect(await ask('//init', { 'e2b-sandbox-id': 'runs' })).toMatchObject({ status: 404 });
    expect(await ask('/', { 'e2b-sandbox-id': 'Not-An-Id' })).toMatchObject({ status: 400 });
    expect(seen).toEqual([]);
  });

  describe('where the data plane refuses', () => {
    const refuse = (status: number, code: string, details: object): void => {
      plane.removeAllListeners('request').removeAllListeners('upgrade');
      plane.on('request', (_, response) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ error: { code, message: 'of the host', details } }));
      });
    };
    const notFound = { sandboxId: 'runs', message: 'The sandbox was not found', code: 502 };
    const closed = { sandboxId: 'runs', message: 'The sandbox is running but port is not open', port: 3000, code: 502 };
    const headers = { 'e2b-sandbox-id': 'runs', 'e2b-sandbox-port': '3000' };

    it.each([
      ['knows no such sandbox', 404, 'not_found', { sandboxId: 'runs' }, notFound],
      ['lets nobody in now', 502, 'guest_unavailable', { sandboxId: 'runs' }, notFound],
      ['finds the port closed', 502, 'guest_unavailable', { sandboxId: 'runs', port: 3000 }, closed],
    ])('because it %s, answers in the shape that SDKs know', async (_, status, code, details, body) => {
      refuse(status, code, details);
      expect(await ask('/', headers)).toMatchObject({ status: 502, text: JSON.stringify(body) });
      expect(await upgrade()).toMatch(new RegExp(`^HTTP/1.1 502 [^]*${JSON.stringify(body)}$`));
    });

    it('tells a browser in words', async () => {
      const browser = { ...headers, accept: 'text/html,application/xhtml+xml' };
      refuse(502, 'guest_unavailable', { sandboxId: 'runs', port: 3000 });
      const page = { status: 502, headers: { 'content-type': 'text/plain; charset=utf-8' } };
      expect(await ask('/', browser)).toMatchObject({
        ...page,
        text: 'Sandbox runs is running, but nothing in it answers on port 3000.\n',
      });
      expect(await ask('/', { ...browser, 'e2b-sandbox-id': 'gone' })).toMatchObject({
        ...page,
        text: expect.stringContaining('Sandbox gone was not found'),
      });
    });

    it.each([
      ['of another sandbox', JSON.stringify({ error: { code: 'not_found', details: { sandboxId: 'other' } } })],
      ['that only begins like one', '{"error":{"code":"not_found","details":{"sandboxId":"runs"}}'],
      ['that is longer than a refusal', JSON.stringify({ error: 'x'.repeat(100_000) })],
    ])('passes on an answer of the guest %s as it is', async (_, body) => {
      plane.removeAllListeners('request').removeAllListeners('upgrade');
      plane.on('request', (_request, response) => {
        response.writeHead(404, { 'content-type': 'application/json', 'x-guest': 'yes' });
        response.end(body);
      });
      expect(await ask('/', headers)).toMatchObject({ status: 404, text: body, headers: { 'x-guest': 'yes' } });
      expect(await upgrade()).toContain(body.slice(-100));
    });

    /** What an attempt to upgrade is answered, head and body as one text. */
    function upgrade(): Promise<string> {
      const socket = connect(edgePort(), '127.0.0.1');
      socket.write(
        'GET /ws HTTP/1.1\r\nHost: x\r\nE2b-Sandbox-Id: runs\r\nE2b-Sandbox-Port: 3000\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n',
      );
      let text = '';
      socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
      return new Promise((resolve) => socket.once('close', () => resolve(text)));
    }
  });

  it('resets the connection when the guest is lost in the middle of an answer', async () => {
    plane.removeAllListeners('request');
    plane.on('request', (_, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half', () => response.socket?.resetAndDestroy());
    });
    await expect(ask('/', { 'e2b-sandbox-id': 'runs' })).rejects.toThrow(/ECONNRESET|aborted/);
  });

  it('answers 502 when the host is away', async () => {
    await close(plane);
    expect(await ask('/', { 'e2b-sandbox-id': 'runs' })).toMatchObject({ status: 502 });
    await listen(plane);
  });
});
