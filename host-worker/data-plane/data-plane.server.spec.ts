import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ConnectionRegistry } from './connection-registry.js';
import { DataPlaneServer } from './data-plane.server.js';

const TOKEN = 'data-plane-token';
const attachment = { namespace: 'sbx-s1', tap: 'tap0', mac: '02:fc:00:00:00:05', hostAddress: '127.0.0.1' };

const COUNTERS = { sentBytes: 1, sentPackets: 2, receivedBytes: 3, receivedPackets: 4, deniedPackets: 5 };

let guest: Server;
let guestPort: number;
let onRequest: (req: IncomingMessage, res: ServerResponse) => void;
let networks: Map<string, typeof attachment>;
let connections: ConnectionRegistry;
let plane: DataPlaneServer;
let url: string;
let unexpected: unknown[];

beforeEach(async () => {
  onRequest = (_, res) => res.end('hello');
  guest = createServer((req, res) => onRequest(req, res));
  await new Promise<void>((resolve) => guest.listen(0, '127.0.0.1', resolve));
  guestPort = (guest.address() as AddressInfo).port;
  networks = new Map([['s1', attachment]]);
  connections = new ConnectionRegistry(async (id) => networks.get(id), 50);
  unexpected = [];
  plane = new DataPlaneServer({
    token: TOKEN,
    connections,
    consoleLog: async (id, maxBytes) => `console of ${id}`.slice(-maxBytes),
    networkCounters: async (id) => (id === 's1' ? COUNTERS : undefined),
    log: { error: (fields) => unexpected.push(fields) },
  });
  url = await plane.listen('127.0.0.1', 0);
});

afterEach(async () => {
  await plane.close(0);
  guest.closeAllConnections();
  await new Promise((resolve) => guest.close(resolve));
  expect(unexpected).toEqual([]);
});

const authorized = { authorization: `Bearer ${TOKEN}` };
const into = (path: string, port = guestPort) => `${url}/sandboxes/s1/ports/${port}${path}`;

/** A client whose socket is visible, to see how a connection ends. */
function open(path: string): { socket: Socket; data: () => string; closed: Promise<Error | undefined> } {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = '';
  let error: Error | undefined;
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('error', (err) => (error = err));
  socket.write(path);
  return { socket, data: () => text, closed: new Promise((resolve) => socket.on('close', () => resolve(error))) };
}

async function seen(predicate: () => boolean, socket: Socket): Promise<void> {
  while (!predicate()) await new Promise((resolve) => socket.once('data', resolve));
}

describe('the data plane', () => {
  it('answers nobody without its token', async () => {
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: `Basic ${TOKEN}` }]) {
      const answer = await fetch(into('/'), { headers });
      expect(answer.status).toBe(401);
      expect(await answer.json()).toMatchObject({ error: { code: 'unauthorized' } });
    }
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  it('passes method, path, query, headers and bodies on as they came', async () => {
    onRequest = (req, res) => {
      const chunks: Buffer[] = [];
      req.on('data', (chunk: Buffer) => chunks.push(chunk));
      req.on('end', () => {
        res.writeHead(201, { 'x-answer': 'yes', 'set-cookie': ['a=1', 'b=2'] });
        res.end(
          JSON.stringify({
            method: req.method,
            url: req.url,
            headers: req.headers,
            body: Buffer.concat(chunks).toString(),
          }),
        );
      });
    };
    const headers = {
      ...authorized,
      'x-torpor-guest-authorization': 'Basic dXNlcjo=',
      'x-access-token': 'guest-token',
    };
    const answer = await fetch(into('/a%2Fb/c?q=%20x'), { method: 'PUT', headers, body: 'payload' });
    expect(answer.status).toBe(201);
    expect(answer.headers.get('x-answer')).toBe('yes');
    expect(answer.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
    expect(await answer.json()).toMatchObject({
      method: 'PUT',
      url: '/a%2Fb/c?q=%20x',
      body: 'payload',
      headers: { authorization: 'Basic dXNlcjo=', 'x-access-token': 'guest-token' },
    });
  });

  it("does not show the guest the data plane's token", async () => {
    onRequest = (req, res) => res.end(JSON.stringify(req.rawHeaders));
    expect(await (await fetch(into('/'), { headers: authorized })).text()).not.toContain(TOKEN);
  });

  it('streams both ways while neither side has ended', async () => {
    onRequest = (req, res) => {
      res.writeHead(200);
      req.on('data', (chunk: Buffer) => res.write(`got ${chunk.toString()}`));
      req.on('end', () => res.end('bye'));
    };
    const answer = await new Promise<IncomingMessage & { ask: ReturnType<typeof request> }>((resolve, reject) => {
      const ask = request(into('/'), { method: 'POST', headers: authorized }, (res) =>
        resolve(Object.assign(res, { ask })),
      );
      ask.on('error', reject);
      ask.write('one');
    });
    const next = () =>
      new Promise<string>((resolve) => answer.once('data', (chunk: Buffer) => resolve(chunk.toString())));
    expect(await next()).toBe('got one');
    answer.ask.write('two');
    expect(await next()).toBe('got two');
    answer.ask.end();
    expect(await next()).toBe('bye');
  });

  it('shows the head of an answer before its body begins', async () => {
    let finish!: () => void;
    onRequest = (_, res) => {
      res.writeHead(200, { 'x-early': '1' });
      res.flushHeaders();
      finish = () => res.end('late');
    };
    const answer = await fetch(into('/'), { headers: authorized });
    expect(answer.headers.get('x-early')).toBe('1');
    finish();
    expect(await answer.text()).toBe('late');
  });

  it('carries upgraded connections, and answers that decline', async () => {
    guest.on('upgrade', (req, socket, head) => {
      if (req.url === '/no') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope');
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Ws: 1\r\n\r\nfirst;',
      );
      socket.write(head);
      socket.pipe(socket);
      return undefined;
    });
    const head = (path: string) =>
      `GET /sandboxes/s1/ports/${guestPort}${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
    const client = open(`${head('/ws')}early;`);
    await seen(() => client.data().includes('early;'), client.socket);
    client.socket.write('ping;');
    await seen(() => client.data().endsWith('ping;'), client.socket);
    expect(client.data()).toMatch(/^HTTP\/1\.1 101 .*X-Ws: 1.*first;early;ping;$/s);
    client.socket.end();
    await client.closed;

    const declined = open(head('/no'));
    await declined.closed;
    expect(declined.data()).toMatch(/^HTTP\/1\.1 403 .*nope$/s);

    const unauthorized = open(head('/ws').replace(TOKEN, 'wrong'));
    await unauthorized.closed;
    expect(unauthorized.data()).toContain('"code":"unauthorized"');
  });

  it.each([
    '/init',
    '//init',
    '/%69nit',
    '/%2569nit',
    '/./init',
    '/x/../init',
    '/init/',
    '/INIT',
    '/init;a=b',
    '/\\init',
    '/%5cinit',
    '/x%2f..%2finit',
    '/torpor.guest.v1.Guest/Quiesce',
    '/%zz/init',
  ])('refuses the internal path %s of the agent', async (path) => {
    const client = open(
      `POST /sandboxes/s1/ports/49983${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    );
    await client.closed;
    expect(client.data()).toMatch(/^HTTP\/1\.1 404 .*only for its host/s);
  });

  it("lets a program of the guest's owner have a path of that name", async () => {
    onRequest = (req, res) => res.end(req.url);
    expect(await (await fetch(into('/init'), { headers: authorized })).text()).toBe('/init');
  });

  it('tells an unknown sandbox from a closed port', async () => {
    const unknown = await fetch(`${url}/sandboxes/s2/ports/80/`, { headers: authorized });
    expect(unknown.status).toBe(404);
    const closed = await fetch(into('/', 1), { headers: authorized });
    expect(closed.status).toBe(502);
    expect(await closed.json()).toMatchObject({ error: { code: 'guest_unavailable' } });
    for (const path of [
      '/sandboxes/S1/ports/80/',
      '/sandboxes/s1/ports/080/',
      '/sandboxes/s1/ports/70000/',
      '/sandboxes/../x',
      '/',
    ]) {
      expect((await fetch(url + path, { headers: authorized })).status).toBe(404);
    }
  });

  it('gives the counters of a network, and says where there is none', async () => {
    const answer = await fetch(`${url}/sandboxes/s1/network`, { headers: authorized });
    expect([answer.status, await answer.json()]).toEqual([200, COUNTERS]);
    const none = await fetch(`${url}/sandboxes/s2/network`, { headers: authorized });
    expect([none.status, await none.json()]).toMatchObject([404, { error: { code: 'not_found' } }]);
    const refused = await Promise.all([
      fetch(`${url}/sandboxes/s1/network`),
      fetch(`${url}/sandboxes/s1/network`, { headers: authorized, method: 'PUT' }),
      fetch(`${url}/sandboxes/s1/network/x`, { headers: authorized }),
    ]);
    expect(refused.map(({ status }) => status)).toEqual([401, 404, 404]);
  });

  it('gives the end of the console', async () => {
    const answer = await fetch(`${url}/sandboxes/s1/console?max_bytes=5`, { headers: authorized });
    expect(await answer.text()).toBe('of s1');
  });

  it('lets what is under way end within the grace of a pause, and refuses what is new', async () => {
    let finish!: () => void;
    const arrived = new Promise<void>((resolve) => {
      onRequest = (_, res) => {
        res.writeHead(200).write('begun;');
        finish = () => res.end('ended');
        resolve();
      };
    });
    const answer = await fetch(into('/'), { headers: authorized });
    await arrived;
    const held = connections.hold('s1');
    const refused = await fetch(into('/'), { headers: authorized });
    expect(refused.status).toBe(502);
    finish();
    expect(await answer.text()).toBe('begun;ended');
    await held;
    connections.admit('s1');
    onRequest = (_, res) => res.end('again');
    expect(await (await fetch(into('/'), { headers: authorized })).text()).toBe('again');
  });

  it('resets what outlasts the grace, and at once what loses its guest', async () => {
    onRequest = (_, res) => void res.writeHead(200).write('begun');
    const head = `GET /sandboxes/s1/ports/${guestPort}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`;
    const first = open(head);
    await seen(() => first.data().includes('begun'), first.socket);
    await connections.hold('s1');
    expect(await first.closed).toMatchObject({ code: 'ECONNRESET' });

    connections.admit('s1');
    const second = open(head);
    await seen(() => second.data().includes('begun'), second.socket);
    connections.cut('s1');
    expect(await second.closed).toMatchObject({ code: 'ECONNRESET' });
  });

  it('resets the client when the guest breaks off in the middle', async () => {
    let breakOff!: () => void;
    onRequest = (req, res) => {
      res.writeHead(200).write('begun');
      breakOff = () => req.socket.resetAndDestroy();
    };
    const client = open(
      `GET /sandboxes/s1/ports/${guestPort}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`,
    );
    await seen(() => client.data().includes('begun'), client.socket);
    breakOff();
    expect(await client.closed).toMatchObject({ code: 'ECONNRESET' });
  });

  it('ends the way into the guest when the client goes away', async () => {
    const gone = new Promise<void>((resolve) => {
      onRequest = (req, res) => {
        res.writeHead(200).write('begun');
        req.socket.once('close', () => resolve());
      };
    });
    const client = open(
      `GET /sandboxes/s1/ports/${guestPort}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`,
    );
    await seen(() => client.data().includes('begun'), client.socket);
    client.socket.destroy();
    await gone;
  });

  it('does not use an address any more once it was forgotten', async () => {
    await fetch(into('/'), { headers: authorized });
    networks.delete('s1');
    connections.forget('s1');
    expect((await fetch(into('/'), { headers: authorized })).status).toBe(404);
  });

  it('does not use an address that was forgotten while it was looked up', async () => {
    let answer!: (found: typeof attachment) => void;
    let lookups = 0;
    const registry = new ConnectionRegistry(() => {
      lookups += 1;
      return lookups === 1 ? new Promise((resolve) => (answer = resolve)) : Promise.resolve(undefined);
    });
    const door = registry.door('s1');
    registry.forget('s1');
    answer(attachment);
    await expect(door).rejects.toMatchObject({ code: 'not_found' });
  });
});
