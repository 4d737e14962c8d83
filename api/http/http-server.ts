import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { AuthenticatedRequest } from '../auth/access.js';
import { isForGuest } from '../edge/edge-target.js';
import { ErrorFilter } from './error.filter.js';
import { IdPipe } from './id.pipe.js';
import { parseQueryString } from './query-string.js';
import { createValidationPipe } from './validation.js';

const BODY_LIMIT = 1024 * 1024;
/** Standard input of a program comes in the body. */
const EXEC_BODY_LIMIT = 20 * 1024 * 1024;
const REQUEST_ID = /^[\x21-\x7e]{1,64}$/;

/** Takes what is for a guest before it reaches the API's routes; set once the application is made. */
export interface Edge {
  serve(request: IncomingMessage, response: ServerResponse): Promise<void>;
  serveUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
}

type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

export function createAdapter(edge: () => Edge | null): FastifyAdapter {
  const adapter = new FastifyAdapter({
    bodyLimit: BODY_LIMIT,
    genReqId: requestIdOf,
    rewriteUrl: (request: IncomingMessage) => capsulesToSandboxes(request.url ?? '/'),
    routerOptions: { querystringParser: parseQueryString },
    forceCloseConnections: 'idle',
    serverFactory: (handler: RequestHandler) => splitServer(handler, edge),
  });
  // Before any route is added: afterwards a route's limit cannot be changed.
  const fastify = adapter.getInstance<FastifyInstance>();
  fastify.addHook('onRoute', (route) => {
    if (route.url === '/v1/sandboxes/:id/exec') route.bodyLimit = EXEC_BODY_LIMIT;
  });
  return adapter;
}

/** Everything about HTTP that does not depend on what is served. */
export function configureHttp(app: NestFastifyApplication, logger: Logger): void {
  app.useGlobalPipes(new IdPipe(), createValidationPipe());
  app.useGlobalFilters(new ErrorFilter(logger));
  const fastify = app.getHttpAdapter().getInstance();
  acceptJsonOnly(fastify);
  fastify.addHook('onRequest', async (request, reply) => {
    void reply.header('x-request-id', request.id);
  });
  fastify.addHook('onResponse', async (request, reply) => {
    const level = reply.statusCode >= 500 ? 'warn' : 'info';
    logger[level](logged(request, reply.statusCode, reply.elapsedTime), 'request');
  });
}

/** Many clients name a content type even where they send nothing. */
function acceptJsonOnly(fastify: FastifyInstance): void {
  const parse = fastify.getDefaultJsonParser('error', 'error');
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.trim() === '') done(null, undefined);
    else void parse(request, body, done);
  });
}

/** Ids and figures; no header, query or body: secrets are among them. */
function logged(request: FastifyRequest, status: number, ms: number): object {
  const { caller, callingHost } = request as AuthenticatedRequest;
  return {
    requestId: request.id,
    method: request.method,
    path: request.url.split('?', 1)[0],
    status,
    ms: Math.round(ms * 10) / 10,
    ...(caller ? { teamId: caller.teamId } : {}),
    ...(callingHost ? { hostId: callingHost.hostId } : {}),
  };
}

function requestIdOf(request: { headers: IncomingMessage['headers'] }): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/** `/v1/capsules` is another name of `/v1/sandboxes`. */
function capsulesToSandboxes(url: string): string {
  return url.replace(/^\/v1\/capsules(?=[/?]|$)/, '/v1/sandboxes');
}

function splitServer(handler: RequestHandler, edge: () => Edge | null): Server {
  const server = createServer((request, response) => {
    const proxy = isForGuest(request.headers) ? edge() : null;
    if (!proxy) return handler(request, response);
    response.setHeader('x-request-id', requestIdOf(request));
    proxy.serve(request, response).catch(() => request.socket.destroy());
  });
  server.on('upgrade', (request, socket, head) => {
    const proxy = isForGuest(request.headers) ? edge() : null;
    if (proxy) proxy.serveUpgrade(request, socket, head).catch(() => socket.destroy());
    else socket.end('HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  });
  // A request may be held open for as long as an operation takes.
  server.requestTimeout = 0;
  server.keepAliveTimeout = 75_000;
  return server;
}
