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
import { readDataPlaneAnswer, type DataPlaneRefusal } from './data-plane-answer.js';
import { toCaller, toDataPlane } from './edge-headers.js';
import { hidden, malformed, portClosed, sandboxNotFound, type Refusal } from './edge-refusal.js';
import { edgeTarget } from './edge-target.js';

/** Where a request goes. */
interface Way extends GuestDoor {
  sandboxId: string;
  port: number;
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
    const way = await this.open(request);
    if ('status' in way) return refuse(response, way);
    const upstream = this.forward(request, way, false);
    upstream.once('response', (answer) => {
      this.answer(request, way, answer, response).catch(() => reset(request.socket));
    });
    upstream.once('error', () => {
      if (response.headersSent) reset(request.socket);
      else refuse(response, sandboxNotFound(request.headers, way.sandboxId));
    });
    response.once('close', () => upstream.destroy());
    // Errors of either side end at the listeners above.
    pipeline(request, upstream, () => undefined);
  }

  private async answer(
    request: IncomingMessage,
    way: Way,
    answer: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const read = await readDataPlaneAnswer(answer, way.sandboxId);
    if (read.kind === 'refusal') return refuse(response, refusalOf(read.refusal, request, way));
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, toCaller(answer));
    if (read.ended) {
      response.end(read.begun);
      return;
    }
    if (read.begun.length > 0) response.write(read.begun);
    // Cut off in the middle: the caller must not take it for a proper end.
    pipeline(answer, response, (error) => {
      if (error) reset(request.socket);
    });
  }

  async serveUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    const way = await this.open(request);
    if ('status' in way) return refuseUpgrade(socket, way);
    const upstream = this.forward(request, way, true);
    upstream.once('upgrade', (answer, guest, guestHead) => {
      const headers = [...toCaller(answer), 'Connection', 'Upgrade', 'Upgrade', answer.headers.upgrade ?? ''];
      socket.write(headOf(answer, headers));
      socket.write(guestHead);
      guest.write(head);
      pipeline(guest, socket, () => reset(socket as Socket));
      pipeline(socket, guest, () => guest.destroy());
    });
    upstream.once('response', (answer) => {
      this.decline(request, way, answer, socket).catch(() => reset(socket as Socket));
    });
    upstream.once('error', () => refuseUpgrade(socket, sandboxNotFound(request.headers, way.sandboxId)));
    socket.once('close', () => upstream.destroy());
    upstream.end();
  }

  /** The guest answered without upgrading, or the data plane did: nothing follows. */
  private async decline(request: IncomingMessage, way: Way, answer: IncomingMessage, socket: Duplex): Promise<void> {
    const read = await readDataPlaneAnswer(answer, way.sandboxId);
    if (read.kind === 'refusal') return refuseUpgrade(socket, refusalOf(read.refusal, request, way));
    socket.write(headOf(answer, [...toCaller(answer), 'Connection', 'close']));
    socket.write(read.begun);
    if (read.ended) socket.end();
    else pipeline(answer, socket, () => socket.destroy());
  }

  private async open(request: IncomingMessage): Promise<Way | Refusal> {
    const target = edgeTarget(request.headers, request.url ?? '');
    if (target.kind === 'malformed') return malformed(target.why);
    if (target.kind === 'hidden') return hidden();
    const { sandboxId, port } = target;
    try {
      const hostId = await this.sandboxes.hostOfRunning(sandboxId);
      if (hostId !== null) return { ...(await this.dataPlane.door(hostId, sandboxId, port)), sandboxId, port };
    } catch {
      // As good as not there: the caller can do nothing about why.
    }
    return sandboxNotFound(request.headers, sandboxId);
  }

  private forward(request: IncomingMessage, way: Way, upgrade: boolean): ClientRequest {
    const base = new URL(way.baseUrl);
    return httpRequest({
      host: base.hostname,
      port: base.port,
      // As it came: parsing it anew would change what the guest is asked.
      path: `${base.pathname}${request.url ?? '/'}`,
      method: request.method,
      headers: toDataPlane(request, way.authorization, upgrade),
      setHost: false,
      ...(upgrade ? {} : { agent: this.agent }),
    });
  }
}

function refusalOf(why: DataPlaneRefusal, { headers }: IncomingMessage, { sandboxId, port }: Way): Refusal {
  return why === 'port-closed' ? portClosed(headers, sandboxId, port) : sandboxNotFound(headers, sandboxId);
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
