import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { deferred } from '../../test/support/deferred.js';
import { ConnectionRegistry } from './connection-registry.js';
import { DataPlaneServer } from './data-plane.server.js';

const TOKEN = 'data-plane-token';
const network = { namespace: 'sbx-s1', tap: 'tap0', mac: '02:fc:00:00:00:05', hostAddress: '127.0.0.1' };

let guest: Server;
let onRequest: (req: IncomingMessage, res: ServerResponse) => void;
let plane: DataPlaneServer;
let port: number;

beforeEach(async () => {
  guest = createServer((req, res) => onRequest(req, res));
  await new Promise<void>((resolve) => guest.listen(0, '127.0.0.1', resolve));
  plane = new DataPlaneServer({
    token: TOKEN,
    connections: new ConnectionRegistry(async () => network),
    consoleLog: async () => '',
    networkCounters: async () => undefined,
    log: { error: () => {} },
  });
  port = Number(new URL(await plane.listen('127.0.0.1', 0)).port);
});

afterEach(async () => {
  guest.closeAllConnections();
  await new Promise((resolve) => guest.close(resolve));
});

interface Client {
  socket: Socket;
  text(): string;
  /** Resolves with how the connection ended. */
  ended: Promise<string>;
}

function client(): Client {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  let error: NodeJS.ErrnoException | undefined;
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('error', (err) => (error = err));
  const ended = new Promise<string>((resolve) => socket.on('close', () => resolve(error?.code ?? 'end')));
  return { socket, text: () => text, ended };
}

function ask(path = '/'): string {
  const { port: inside } = guest.address() as AddressInfo;
  return `GET /sandboxes/s1/ports/${inside}${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`;
}

async function until(predicate: () => boolean, socket: Socket): Promise<void> {
  while (!predicate()) await new Promise((resolve) => socket.once('data', resolve));
}

describe('a data plane that closes', () => {
  it('lets an answer under way be given, and then ends', async () => {
    const [asked, mayAnswer] = [deferred(), deferred()];
    onRequest = (_, res) => {
      asked.resolve();
      void mayAnswer.promise.then(() => res.end('the whole answer'));
    };
    const { socket, text, ended } = client();
    socket.write(ask());
    await asked.promise;
    const closing = plane.close(10_000);
    mayAnswer.resolve();
    await closing;
    await ended;
    expect(text()).toContain('the whole answer');
  });

  it('takes no connection any more, and closes those that wait', async () => {
    onRequest = (_, res) => res.end('hello');
    const waiting = client();
    waiting.socket.write(ask());
    await until(() => waiting.text().includes('hello'), waiting.socket);
    await plane.close();
    expect(await waiting.ended).toBe('end');
    expect(await client().ended).toBe('ECONNREFUSED');
  });

  it('refuses what comes over a connection with an answer under way, saying so', async () => {
    const asked = deferred();
    let answer: ServerResponse | undefined;
    onRequest = (_, res) => {
      answer = res;
      asked.resolve();
    };
    const { socket, text, ended } = client();
    socket.write(ask('/first'));
    await asked.promise;
    const closing = plane.close(10_000);
    socket.write(ask('/second'));
    answer?.end('first');
    await ended;
    await closing;
    expect(text()).toContain('first');
    expect([...text().matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).not.toEqual(['200', '200']);
  });

  it('resets a stream that goes on, so that its reader does not take it for complete', async () => {
    onRequest = (_, res) => void res.writeHead(200).write('first line\n');
    const { socket, text, ended } = client();
    socket.write(ask());
    await until(() => text().includes('first line'), socket);
    const before = performance.now();
    await plane.close(100);
    expect(await ended).toBe('ECONNRESET');
    expect(performance.now() - before).toBeGreaterThanOrEqual(90);
  });
});
