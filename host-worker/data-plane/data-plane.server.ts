import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { DomainError, ERRORS } from '../../workflows/contract/errors.js';
import type { NetworkCounters } from '../../workflows/contract/network-policy.js';
import type { ConnectionRegistry } from './connection-registry.js';
import { carryRequest, carryUpgrade } from './guest-passage.js';
import { type DataPlaneRoute, parseRoute } from './guest-route.js';

/** Longer than clients keep idle connections, so that it is they who close them. */
const KEEP_ALIVE_MS = 75_000;
/** Enough for an answer that is nearly given; a stream may go on for hours, and the next worker waits for this one. */
const GRACE_MS = 2_000;

interface DataPlaneLog {
  error(fields: object, message: string): void;
}

export interface DataPlaneOptions {
  token: string;
  connections: ConnectionRegistry;
  consoleLog(sandboxId: string, maxBytes: number): Promise<string>;
  /** Undefined where there is no network. */
  networkCounters(sandboxId: string): Promise<NetworkCounters | undefined>;
  log: DataPlaneLog;
}

/**
 * Bytes from the API into guests and back. It never looks at them: requests,
 * answers and upgraded connections are streamed as they come.
 */
export class DataPlaneServer {
  readonly #server: Server;
  #closing = false;

  constructor(private readonly options: DataPlaneOptions) {
    this.#server = createServer((req, res) => void this.#serve(req, res));
    this.#server.on('upgrade', (req, socket, head) => void this.#serveUpgrade(req, socket, head));
    // An upload or a stream may take as long as it likes; heads may not.
    this.#server.requestTimeout = 0;
    this.#server.keepAliveTimeout = KEEP_ALIVE_MS;
  }

  /** Resolves with the URL at which it answers. */
  async listen(host: string, port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    const { address, port: bound, family } = this.#server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`;
  }

  /**
   * Nothing new comes in; answers under way get the time they are given, and what goes on after it is reset: guests
   * go on, and clients come again, to the next worker. A reset and not an end, which a stream's reader would take for all
   * there was.
   */
  async close(graceMs = GRACE_MS): Promise<void> {
    this.#closing = true;
    // Takes no connection any more, and closes those that wait for a request.
    const closed = new Promise((resolve) => this.#server.close(resolve));
    await this.options.connections.closeAll(graceMs);
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    try {
      const route = this.#admit(req);
      switch (route.kind) {
        case 'health':
          return sendJson(res, 200, { status: 'ok' });
        case 'console': {
          const text = await this.options.consoleLog(route.sandboxId, route.maxBytes);
          res.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end(text);
          return;
        }
        case 'network': {
          const counters = await this.options.networkCounters(route.sandboxId);
          if (!counters) throw new DomainError('not_found', `${route.sandboxId} has no network on this host`);
          return sendJson(res, 200, counters);
        }
        case 'guest':
          return await carryRequest(await this.options.connections.door(route.sandboxId), route, req, res);
      }
    } catch (err) {
      const { status, body } = this.#failure(err);
      if (res.headersSent || res.destroyed) res.destroy();
      else sendJson(res, status, body, { lastOnConnection: this.#closing || !req.complete });
    }
  }

  async #serveUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      const route = this.#admit(req);
      if (route.kind !== 'guest')
        throw new DomainError('invalid_request', 'only connections into guests can be upgraded');
      await carryUpgrade(await this.options.connections.door(route.sandboxId), route, req, socket, head);
    } catch (err) {
      const { status, body } = this.#failure(err);
      const text = JSON.stringify(body);
      const lines = [
        `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
        'Content-Type: application/json',
        'Connection: close',
      ];
      socket.end(`${[...lines, `Content-Length: ${Buffer.byteLength(text)}`].join('\r\n')}\r\n\r\n${text}`);
    }
  }

  #admit(req: IncomingMessage): Exclude<DataPlaneRoute, { kind: 'unknown' | 'internal' }> {
    // On a connection that is still open for an answer under way.
    if (this.#closing)
      throw new DomainError('host_unavailable', 'the worker of this host is ending; ask again in a moment');
    const route = parseRoute(req.url ?? '');
    if (route.kind === 'health') return route;
    const given = /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1] ?? '';
    if (!sameSecret(given, this.options.token)) {
      throw new DomainError('unauthorized', "the data plane needs this host's token: Authorization: Bearer …");
    }
    if (route.kind === 'unknown' || ((route.kind === 'console' || route.kind === 'network') && req.method !== 'GET')) {
      throw new DomainError('not_found', `no such path: ${req.method} ${req.url}`);
    }
    if (route.kind === 'internal') throw new DomainError('not_found', 'this path of the agent is only for its host');
    return route;
  }

  #failure(err: unknown): { status: number; body: object } {
    if (!(err instanceof DomainError)) this.options.log.error({ err }, 'data plane: request failed unexpectedly');
    const { code, message, details } =
      err instanceof DomainError
        ? err
        : { code: 'internal_error' as const, message: 'the host worker failed; see its log', details: {} };
    return { status: ERRORS[code].http, body: { error: { code, message, details } } };
  }
}

/** Takes the same time whatever was given; hashing makes the lengths equal. */
function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

function sendJson(
  res: ServerResponse,
  status: number,
  body: object,
  options: { lastOnConnection?: boolean } = {},
): void {
  // What is left of a request that was refused is not read; the connection cannot be used again.
  if (options.lastOnConnection) res.setHeader('connection', 'close');
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
