import {
  Agent,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { Injectable } from '@nestjs/common';
import { HostDataPlane, type GuestDoor } from '../host/host-data-plane.js';
import { SandboxRepository } from '../sandbox/sandbox.repository.js';
import { toCaller, toDataPlane } from './edge-headers.js';
import { edgeTarget } from './edge-target.js';

/** An answer of the edge itself, not of a guest. */
interface Refusal {
  status: number;
  type: string;
  body: string;
}

/**
 * Traffic of programs in sandboxes: streamed to the host that runs the sandbox, both
 * ways, unread. It needs no API key: the guest's agent asks for its own token.
 */
@Injectable()
export class EdgeProxy {
  private readonly agent = new Agent({ keepAlive: true, timeout: 30_000 });

  constructor(
    private readonly sandboxes: SandboxRepository,
    private readonly dataPlane: HostDataPlane,
  ) {}

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const door = await this.open(request);
    if ('status' in door) return refuse(response, door);
    const upstream = this.forward(request, door, false);
    upstream.once('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.statusMessage, toCaller(answer));
      // Cut off in the middle: the caller must not take it for a proper end.
      pipeline(answer, response, (error) => {
        if (error) reset(request.socket);
      });
    });
    upstream.once('error', () => {
      if (response.headersSent) reset(request.socket);
      else refuse(response, gone(request));
    });
    response.once('close', () => upstream.destroy());
    // Errors of either side end at the listeners above.
    pipeline(request, upstream, () => undefined);
  }

  async serveUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    const door = await this.open(request);
    if ('status' in door) return refuseUpgrade(socket, door);
    const upstream = this.forward(request, door, true);
    upstream.once('upgrade', (answer, guest, guestHead) => {
      const headers = [...toCaller(answer), 'Connection', 'Upgrade', 'Upgrade', answer.headers.upgrade ?? ''];
      socket.write(headOf(answer, headers));
      socket.write(guestHead);
      guest.write(head);
      pipeline(guest, socket, () => reset(socket as Socket));
      pipeline(socket, guest, () => guest.destroy());
    });
    upstream.once('response', (answer) => {
      socket.write(headOf(answer, [...toCaller(answer), 'Connection', 'close']));
      pipeline(answer, socket, () => socket.destroy());
    });
    upstream.once('error', () => refuseUpgrade(socket, gone(request)));
    socket.once('close', () => upstream.destroy());
    upstream.end();
  }

  private async open(request: IncomingMessage): Promise<GuestDoor | Refusal> {
    const target = edgeTarget(request.headers, request.url ?? '');
    if (target.kind === 'malformed') return { status: 400, type: 'text/plain; charset=utf-8', body: target.why };
    if (target.kind === 'hidden') return json(404, { code: 404, message: 'not found' });
    try {
      const hostId = await this.sandboxes.hostOfRunning(target.sandboxId);
      return hostId === null ? gone(request) : await this.dataPlane.door(hostId, target.sandboxId, target.port);
    } catch {
      return gone(request);
    }
  }

  private forward(request: IncomingMessage, door: GuestDoor, upgrade: boolean): ClientRequest {
    const base = new URL(door.baseUrl);
    return httpRequest({
      host: base.hostname,
      port: base.port,
      // As it came: parsing it anew would change what the guest is asked.
      path: `${base.pathname}${request.url ?? '/'}`,
      method: request.method,
      headers: toDataPlane(request, door.authorization, upgrade),
      setHost: false,
      ...(upgrade ? {} : { agent: this.agent }),
    });
  }
}

function json(status: number, body: object): Refusal {
  return { status, type: 'application/json', body: JSON.stringify(body) };
}

function gone({ headers }: IncomingMessage): Refusal {
  return json(502, { sandboxId: headers['e2b-sandbox-id'], message: 'The sandbox was not found', code: 502 });
}

function refuse(response: ServerResponse, { status, type, body }: Refusal): void {
  // What is left of the request is not read, so nothing else can come on this connection.
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), connection: 'close' });
  response.end(body);
}

function refuseUpgrade(socket: Duplex, { status, type, body }: Refusal): void {
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

function headOf(answer: IncomingMessage, headers: readonly string[]): string {
  const lines = [`HTTP/1.1 ${answer.statusCode ?? 502} ${answer.statusMessage ?? ''}`];
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i] ?? ''}: ${headers[i + 1] ?? ''}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function reset(socket: Socket): void {
  if (!socket.destroyed) socket.resetAndDestroy();
}
