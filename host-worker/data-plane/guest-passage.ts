import { type ClientRequest, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Socket } from 'node:net';
import { DomainError } from '../../workflows/contract/errors.js';
import { type GuestDoor, resetSocket } from './connection-registry.js';
import { toClient, toGuest } from './forwarded-headers.js';
import { AGENT_PORT } from './guest-route.js';

/** A guest whose virtual CPUs stand still, or that is not there, accepts no connection. */
const CONNECT_MS = 10_000;

export interface GuestTarget {
  sandboxId: string;
  port: number;
  path: string;
}

/**
 * Carries one request into a guest and its answer back, both streamed. Rejects as
 * long as nothing was answered, so that the caller can say why; after that, a guest
 * that breaks off resets the client.
 */
export async function carryRequest(
  door: GuestDoor,
  target: GuestTarget,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  const upstream = ask(door, target, req, { upgrade: false });
  const done = door.track({
    reset: () => {
      resetSocket(req.socket);
      upstream.destroy();
    },
  });
  try {
    res.once('close', () => upstream.destroy());
    req.once('error', () => upstream.destroy());
    req.pipe(upstream);
    const answer = await answered(upstream, target);
    res.writeHead(answer.statusCode ?? 502, answer.statusMessage, toClient(answer.rawHeaders));
    // The head must not wait for the first byte of a body that may take its time.
    res.flushHeaders();
    answer.pipe(res);
    await new Promise<void>((resolve) => {
      answer.once('error', () => resetSocket(req.socket));
      answer.once('aborted', () => resetSocket(req.socket));
      res.once('close', resolve);
    });
  } finally {
    done();
  }
}

/** As `carryRequest`, for a connection that turns into something else, such as a WebSocket. */
export async function carryUpgrade(
  door: GuestDoor,
  target: GuestTarget,
  req: IncomingMessage,
  client: Duplex,
  head: Buffer,
): Promise<void> {
  const upstream = ask(door, target, req, { upgrade: true });
  let guest: Socket | undefined;
  const reset = () => {
    if (client instanceof Socket) resetSocket(client);
    else client.destroy();
    resetSocket(guest);
    upstream.destroy();
  };
  const done = door.track({ reset });
  client.once('error', reset);
  client.once('close', () => upstream.destroy());
  try {
    upstream.end();
    const turned = await Promise.race([switched(upstream), answered(upstream, target)]);
    if (!('socket' in turned) || !('head' in turned)) {
      // The guest declined: its answer goes back as it is, and nothing follows it.
      client.write(headOf(turned, ['Connection', 'close']));
      turned.pipe(client);
      await closed(client);
      return;
    }
    guest = turned.socket;
    client.write(headOf(turned.answer, ['Connection', 'Upgrade', 'Upgrade', turned.answer.headers.upgrade ?? '']));
    if (turned.head.length > 0) client.write(turned.head);
    if (head.length > 0) guest.write(head);
    join(client, guest, reset);
    await closed(client);
  } finally {
    done();
  }
}

function ask(door: GuestDoor, target: GuestTarget, req: IncomingMessage, options: { upgrade: boolean }): ClientRequest {
  const upstream = request({
    host: door.address,
    port: target.port,
    method: req.method ?? 'GET',
    path: target.path,
    headers: toGuest(req.rawHeaders, options),
    setHost: !req.headers.host,
    // Servers of the guest's owner may close idle connections at any moment; only the agent is known not to.
    agent: target.port === AGENT_PORT && !options.upgrade ? door.agent : false,
  });
  upstream.once('socket', (socket) => {
    if (!socket.connecting) return;
    const timer = setTimeout(
      () => upstream.destroy(new Error(`no connection within ${CONNECT_MS / 1_000} s`)),
      CONNECT_MS,
    );
    const stop = () => clearTimeout(timer);
    socket.once('connect', stop);
    socket.once('close', stop);
  });
  return upstream;
}

function answered(upstream: ClientRequest, { sandboxId, port }: GuestTarget): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    upstream.once('response', resolve);
    // `on`: what breaks after the answer began is reported by the answer itself.
    upstream.on('error', (cause) => {
      reject(
        new DomainError(
          'guest_unavailable',
          `port ${port} of sandbox ${sandboxId} cannot be reached: ${cause.message}`,
          { sandboxId, port },
          { cause },
        ),
      );
    });
    upstream.once('close', () =>
      reject(new DomainError('guest_unavailable', `port ${port} of sandbox ${sandboxId} closed without an answer`)),
    );
  });
}

function switched(upstream: ClientRequest): Promise<{ answer: IncomingMessage; socket: Socket; head: Buffer }> {
  return new Promise((resolve) => {
    upstream.once('upgrade', (answer, socket, head) => resolve({ answer, socket, head }));
  });
}

/** Each side's end ends the other one's; a break of one breaks the other. */
function join(client: Duplex, guest: Socket, reset: () => void): void {
  client.pipe(guest);
  guest.pipe(client);
  guest.once('error', reset);
  guest.once('close', (broken) => (broken ? reset() : client.end()));
  client.once('close', () => guest.destroy());
}

function headOf(answer: IncomingMessage, connection: string[]): string {
  const headers = [...toClient(answer.rawHeaders), ...connection];
  const lines = [`HTTP/1.1 ${answer.statusCode ?? 502} ${answer.statusMessage ?? ''}`];
  for (let at = 0; at + 1 < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function closed(stream: Duplex): Promise<void> {
  return stream.closed ? Promise.resolve() : new Promise((resolve) => stream.once('close', resolve));
}
