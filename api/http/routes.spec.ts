import 'reflect-metadata';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Module, RequestMethod } from '@nestjs/common';
import { METHOD_METADATA, PATH_METADATA } from '@nestjs/common/constants.js';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { pino } from 'pino';
import { CONTROLLERS, HTTP_POLICIES, SERVICES } from '../api.module.js';
import { ACCESS_POLICY, type AccessPolicy } from '../auth/access.js';
import { ApiKeyRepository, type KeyHolder } from '../auth/api-key.repository.js';
import { CONFIG } from '../config.js';
import { HostRepository } from '../host/host.repository.js';
import { DomainError } from '../../workflows/contract/errors.js';
import { configureHttp, createAdapter } from './http-server.js';
import { Reply } from './reply.js';

const KEY = `tpr_${'0'.repeat(40)}`;
const OPERATOR_KEY = `tpr_${'1'.repeat(40)}`;
const HOLDERS: Record<string, KeyHolder> = {
  [KEY]: { teamId: 'team', operator: false },
  [OPERATOR_KEY]: { teamId: 'platform', operator: true },
};
const HOST_TOKEN = 'tph_known';
const REGISTRATION = 'registration-token-1';

interface Route {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  policy: AccessPolicy | undefined;
}

/** Every route of every controller, with what it declares. */
function routes(): Route[] {
  return CONTROLLERS.flatMap((controller) => {
    const prototype = controller.prototype as Record<string, object>;
    return Object.getOwnPropertyNames(prototype)
      .map((name) => prototype[name] as object)
      .filter((handler) => Reflect.hasMetadata(METHOD_METADATA, handler))
      .map((handler) => ({
        method: RequestMethod[Reflect.getMetadata(METHOD_METADATA, handler) as number] as Route['method'],
        path: joined(Reflect.getMetadata(PATH_METADATA, controller), Reflect.getMetadata(PATH_METADATA, handler)),
        policy: (Reflect.getMetadata(ACCESS_POLICY, handler) ??
          Reflect.getMetadata(ACCESS_POLICY, controller)) as Route['policy'],
      }));
  });
}

function joined(...parts: unknown[]): string {
  return `/${parts
    .map((part) => String(part).replace(/^\/|\/$/g, ''))
    .filter((part) => part !== '')
    .join('/')}`;
}

/** Services that were reached, so that a refusal is known to have come before them. */
const reached: { method: string; args: unknown[] }[] = [];
let answer: () => unknown = () => new Reply(200, {});

const FAKE = new Proxy(
  {},
  {
    get: (_, method) =>
      typeof method === 'symbol' || method === 'then' || method.startsWith('on') || method.startsWith('before')
        ? undefined
        : async (...args: unknown[]) => {
            reached.push({ method, args });
            return method === 'console' || method === 'log' ? 'text' : answer();
          },
  },
);

@Module({
  controllers: CONTROLLERS,
  providers: [
    ...SERVICES.map((provide) => ({ provide, useValue: FAKE })),
    { provide: CONFIG, useValue: { registrationToken: REGISTRATION } },
    { provide: ApiKeyRepository, useValue: { holderOf: async (key: string) => HOLDERS[key] ?? null } },
    {
      provide: HostRepository,
      useValue: { idOfToken: async (token: string) => (token === HOST_TOKEN ? 'host' : null) },
    },
    ...HTTP_POLICIES,
  ],
})
class RoutesModule {}

const HEADERS: Record<AccessPolicy, Record<string, string>> = {
  team: { 'x-api-key': KEY },
  operator: { 'x-api-key': OPERATOR_KEY },
  host: { 'x-host-token': HOST_TOKEN },
  registration: { 'x-registration-token': REGISTRATION },
  public: {},
};

/** Operators have a key of a team, too. */
function suffices(policy: AccessPolicy, needed: AccessPolicy | undefined): boolean {
  return policy === needed || (policy === 'operator' && needed === 'team');
}

const HOST_INFO = {
  name: 'host-1',
  arch: 'x86_64',
  version: '1',
  vcpus: 2,
  memory_mb: 1024,
  disk_mb: 1000,
  data_plane_url: 'http://127.0.0.1:9000',
  data_plane_token: 'data-plane-token-1',
  hypervisor: 'qemu',
  hypervisor_version: '7.2',
  cpu: 'max',
  drivers: { hypervisor: 'qemu', disk: 'qcow2', network: 'netns' },
  images: ['minimal'],
};

/** A valid body of each route that takes one, and wrong ones with the field that must be named. */
const BODIES: Record<string, { valid: object; wrong: [body: unknown, field: string][] }> = {
  'POST /v1/sandboxes': {
    valid: { template: 'minimal', vcpus: 2, memory_mb: 512, metadata: { a: 'b' }, env: { A: 'b' } },
    wrong: [
      [{ template: '../etc' }, 'template'],
      [{ template: 7 }, 'template'],
      [{ vcpus: 0 }, 'vcpus'],
      [{ vcpus: '1' }, 'vcpus'],
      [{ vcpus: 1.5 }, 'vcpus'],
      [{ memory_mb: 1 }, 'memory_mb'],
      [{ timeout_seconds: -1 }, 'timeout_seconds'],
      [{ on_timeout: 'explode' }, 'on_timeout'],
      [{ on_memory_loss: 'weep' }, 'on_memory_loss'],
      [{ metadata: { a: 1 } }, 'metadata'],
      [{ metadata: ['a'] }, 'metadata'],
      [{ metadata: Object.fromEntries(Array.from({ length: 51 }, (_, i) => [`k${i}`, ''])) }, 'metadata'],
      [{ metadata: { ['k'.repeat(65)]: '' } }, 'metadata'],
      [{ metadata: { k: 'v'.repeat(513) } }, 'metadata'],
      [{ env: { 'A B': 'x' } }, 'env'],
      [{ env: { A: 'x'.repeat(65_536) } }, 'env'],
      [{ env: { A: '\0' } }, 'env'],
      [{ egress: 'yes' }, 'egress'],
      [{ network: 'open' }, 'network'],
      [{ network: { egress: 1 } }, 'network.egress'],
      [{ network: { allow: [{ cidr: '10.0.0.5/8' }] } }, 'network.allow.0.cidr must be a network: 10.0.0.0/8'],
      [{ cold: 1 }, 'cold'],
      [{ unknown: 1 }, 'unknown'],
    ],
  },
  'POST /v1/sandboxes/:id/resume': {
    valid: { timeout_seconds: 1 },
    wrong: [
      [{ timeout_seconds: 'x' }, 'timeout_seconds'],
      [{ x: 1 }, 'x'],
    ],
  },
  'POST /v1/sandboxes/:id/recover': {
    valid: { discard_memory: true },
    wrong: [
      [{ discard_memory: 'yes' }, 'discard_memory'],
      [{ boot: true }, 'boot'],
    ],
  },
  'PUT /v1/sandboxes/:id/network': {
    valid: {
      egress: false,
      allow: [{ cidr: '10.0.0.0/8', ports: '443', protocol: 'tcp' }],
      deny: [{ cidr: '10.1.2.3' }],
      dns: null,
      tx_mbps: 20,
    },
    wrong: [
      [{}, 'egress must be a boolean value, but it is missing'],
      [{ egress: 'off' }, 'egress'],
      [{ egress: true, allow: '10.0.0.0/8' }, 'allow'],
      [{ egress: true, allow: ['10.0.0.0/8'] }, 'allow'],
      [{ egress: true, allow: [{}] }, 'allow.0.cidr'],
      [{ egress: true, allow: [{ cidr: 'example.com' }] }, 'allow.0.cidr must be an IPv4 network such as 10.0.0.0/8'],
      [{ egress: true, deny: [{ cidr: '10.0.0.0/8' }, { cidr: '::/0' }] }, 'deny.1.cidr'],
      [{ egress: true, deny: [{ cidr: '10.0.0.0/8', ports: 443 }] }, 'deny.0.ports must be a port such as "443"'],
      [{ egress: true, deny: [{ cidr: '10.0.0.0/8', ports: '9-8' }] }, 'deny.0.ports'],
      [{ egress: true, deny: [{ cidr: '10.0.0.0/8', protocol: 'icmp' }] }, 'deny.0.protocol'],
      [{ egress: true, deny: [{ cidr: '10.0.0.0/8', port: '443' }] }, 'deny.0.port'],
      [{ egress: true, deny: Array(65).fill({ cidr: '10.0.0.0/8' }) }, 'deny must contain no more than 64 elements'],
      [{ egress: true, dns: 'yes' }, 'dns'],
      [{ egress: true, tx_mbps: 0 }, 'tx_mbps'],
      [{ egress: true, tx_mbps: 1.5 }, 'tx_mbps'],
      [{ egress: true, tx_mbps: 100_001 }, 'tx_mbps'],
    ],
  },
  'POST /v1/sandboxes/:id/timeout': {
    valid: { timeout_seconds: 1, on_timeout: 'destroy' },
    wrong: [
      [{}, 'timeout_seconds'],
      [{ timeout_seconds: 1, on_timeout: 1 }, 'on_timeout'],
    ],
  },
  'POST /v1/sandboxes/:id/exec': {
    valid: { command: 'true' },
    wrong: [
      [{ command: '' }, 'command'],
      [{ command: 'a\0b' }, 'command'],
      [{ argv: [] }, 'argv'],
      [{ argv: [1] }, 'argv'],
      [{ command: 'x', env: { A: 1 } }, 'env'],
      [{ command: 'x', user: 'Root!' }, 'user'],
      [{ command: 'x', stdin: 5 }, 'stdin'],
      [{ command: 'x', stdin_base64: '***' }, 'stdin_base64'],
      [{ command: 'x', timeout_seconds: 3601 }, 'timeout_seconds'],
      [{ command: 'x', max_output_bytes: 17 * 1024 * 1024 }, 'max_output_bytes'],
    ],
  },
  'POST /v1/ops/reconcile': {
    valid: { dry_run: true, remove_unknown: false },
    wrong: [
      [{ dry_run: 1 }, 'dry_run'],
      [{ remove_unknown: 'all' }, 'remove_unknown'],
    ],
  },
  'POST /v1/hosts/self/verdicts': {
    valid: { ids: ['a', 'b'] },
    wrong: [
      [{}, 'ids'],
      [{ ids: 'a' }, 'ids'],
      [{ ids: [1] }, 'ids'],
      [{ ids: Array(1001).fill('a') }, 'ids'],
    ],
  },
  'POST /v1/templates/builds': {
    valid: { template: 'mine', setup: ['true'] },
    wrong: [
      [{}, 'template'],
      [{ template: 'm', image: '/x' }, 'image'],
      [{ template: 'm', setup: 'ls' }, 'setup'],
      [{ template: 'm', setup: [''] }, 'setup'],
      [{ template: 'm', vcpus: 65 }, 'vcpus'],
      [{ template: 'm', memory_mb: 64 }, 'memory_mb'],
    ],
  },
  'POST /v1/hosts/register': {
    valid: HOST_INFO,
    wrong: Object.keys(HOST_INFO).map((field) => [{ ...HOST_INFO, [field]: undefined }, field]),
  },
  'POST /v1/hosts/self/heartbeat': {
    valid: HOST_INFO,
    wrong: [
      [{ ...HOST_INFO, drivers: { hypervisor: 'qemu' } }, 'drivers.disk'],
      [{ ...HOST_INFO, data_plane_url: 'ftp://x' }, 'data_plane_url'],
    ],
  },
};

const WRONG_QUERIES: [path: string, field: string][] = [
  ['/v1/ops/findings?limit=0', 'limit'],
  ['/v1/sandboxes?limit=0', 'limit'],
  ['/v1/sandboxes?limit=201', 'limit'],
  ['/v1/sandboxes?limit=x', 'limit'],
  ['/v1/sandboxes?limit=1&limit=2', 'limit'],
  ['/v1/sandboxes?state=asleep', 'state'],
  ['/v1/sandboxes?state=', 'state'],
  ['/v1/sandboxes?metadata=x', 'metadata'],
  ['/v1/sandboxes?metadata[a]=1&metadata[a]=2', 'metadata'],
  ['/v1/sandboxes?unknown=1', 'unknown'],
  ['/v1/sandboxes/x/events?limit=-1', 'limit'],
  ['/v1/sandboxes/x/console?max_bytes=0', 'max_bytes'],
  ['/v1/operations?kind=fork', 'kind'],
  ['/v1/operations?state=lost', 'state'],
  ['/v1/operations?sandbox_id=A-B', 'sandbox_id'],
  ['/v1/templates?limit=1.5', 'limit'],
  ['/v1/templates/builds?state=done', 'state'],
  ['/v1/templates/builds/x/log?offset=-1', 'offset'],
  ['/v1/hosts?cursor=1&cursor=2', 'cursor'],
];

describe('routes', () => {
  let app: NestFastifyApplication;
  let base: string;

  beforeAll(async () => {
    app = await NestFactory.create<NestFastifyApplication>(
      RoutesModule,
      createAdapter(() => null),
      { logger: false, bodyParser: false, abortOnError: false },
    );
    configureHttp(app, pino({ level: 'silent' }));
    await app.listen(0, '127.0.0.1');
    base = await app.getUrl();
  });
  afterAll(() => app.close());

  async function send(method: Route['method'], url: string, headers: Record<string, string>, body?: unknown) {
    reached.length = 0;
    const response = await fetch(base + url.replace(':id', 'sandbox1'), {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const isJson = response.headers.get('content-type')?.includes('json');
    const text = await response.text();
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      json: (isJson && text !== '' ? JSON.parse(text) : {}) as Record<string, unknown>,
    };
  }

  const body = (route: Route) => BODIES[`${route.method} ${route.path}`]?.valid;

  it('are all here', () => {
    expect(routes().length).toBeGreaterThanOrEqual(32);
  });

  it.each(routes())('$method $path declares who may call it', ({ policy }) => {
    expect(['team', 'operator', 'host', 'registration', 'public']).toContain(policy);
  });

  it.each(routes().filter(({ policy }) => policy !== 'public'))(
    '$method $path refuses callers without its credential',
    async (route) => {
      const others = (Object.keys(HEADERS) as AccessPolicy[]).filter((policy) => !suffices(policy, route.policy));
      for (const policy of others) {
        const { status, json } = await send(route.method, route.path, HEADERS[policy], body(route));
        // A key that is known and not an operator's is another answer than no key.
        const known = policy === 'team' && route.policy === 'operator';
        expect({ status, code: (json['error'] as { code: string }).code, reached }).toEqual({
          status: known ? 403 : 401,
          code: known ? 'forbidden' : 'unauthorized',
          reached: [],
        });
      }
    },
  );

  it.each(routes().filter(({ path }) => path !== '/health/live'))(
    '$method $path reaches its service with its credential',
    async (route) => {
      const { status } = await send(route.method, route.path, HEADERS[route.policy ?? 'public'], body(route));
      expect(status).toBeLessThan(300);
      expect(reached).toHaveLength(1);
    },
  );

  it.each(
    Object.entries(BODIES).flatMap(([route, { wrong }]) => wrong.map(([sent, field]) => ({ route, sent, field }))),
  )('$route refuses a wrong $field and names it', async ({ route, sent, field }) => {
    const [method, path] = route.split(' ') as [Route['method'], string];
    const { policy } = routes().find((known) => known.method === method && known.path === path) ?? {};
    const { status, json } = await send(method, path, HEADERS[policy ?? 'public'], sent);
    const error = json['error'] as { code: string; message: string; details: { fields: string[] } };
    expect({ status, code: error.code, reached }).toEqual({ status: 400, code: 'invalid_request', reached: [] });
    expect(error.details.fields.map((name) => name.split('.')[0])).toContain(field.split(/[. ]/)[0]);
    expect(error.message).toContain(field);
  });

  it.each(WRONG_QUERIES)('%s is refused and names %s', async (url, field) => {
    const { status, json } = await send('GET', url, HEADERS.operator);
    const error = json['error'] as { code: string; message: string };
    expect({ status, code: error.code, reached }).toEqual({ status: 400, code: 'invalid_request', reached: [] });
    expect(error.message).toContain(field);
  });

  it('never repeats an environment or input in an error', async () => {
    const secret = 'hunter2';
    const { json } = await send('POST', '/v1/sandboxes/:id/exec', HEADERS.team, {
      command: 'x',
      env: { 'A-B': secret },
      stdin: [secret],
    });
    expect(JSON.stringify(json)).not.toContain(secret);
  });

  it('take an Idempotency-Key of printable characters only', async () => {
    const create = (key: string) => send('POST', '/v1/sandboxes', { ...HEADERS.team, 'idempotency-key': key }, {});
    expect((await create('a key')).status).toBe(200);
    expect(reached[0]?.args[0]).toEqual({ teamId: 'team', idempotencyKey: 'a key', waitMs: 0 });
    for (const key of ['', 'x'.repeat(129), 'caf\u{e9}'])
      expect((await create(key)).json).toMatchObject({ error: { code: 'invalid_request' } });
  });

  it('take a body that is no JSON, too large or of another type for what it is', async () => {
    const create = async (body: string, type = 'application/json'): Promise<object> => {
      const response = await fetch(`${base}/v1/sandboxes`, {
        method: 'POST',
        headers: { ...HEADERS.team, 'content-type': type },
        body,
      });
      return { status: response.status, body: (await response.json()) as object };
    };
    const invalid = { status: 400, body: { error: { code: 'invalid_request' } } };
    expect(await create('{')).toMatchObject(invalid);
    expect(await create('[]')).toMatchObject(invalid);
    expect(await create('"text"')).toMatchObject(invalid);
    expect(await create('{"__proto__":{"x":1}}')).toMatchObject(invalid);
    expect(await create('a=b', 'text/plain')).toMatchObject(invalid);
    const large = await create(JSON.stringify({ env: { A: 'x'.repeat(1024 * 1024) } }));
    expect(large).toMatchObject({ status: 413, body: { error: { code: 'too_large' } } });
    expect(await create('')).toMatchObject({ status: 200 });
  });

  it('take 20 MiB of input for a program', async () => {
    const stdin = 'x'.repeat(19 * 1024 * 1024);
    expect((await send('POST', '/v1/sandboxes/:id/exec', HEADERS.team, { command: 'cat', stdin })).status).toBe(200);
  });

  it('answer with the status, the replay mark and the request id', async () => {
    answer = () => new Reply(201, { id: 'x' }, true);
    const replayed = await send('POST', '/v1/sandboxes?wait=true', { ...HEADERS.team, 'x-request-id': 'mine' }, {});
    answer = () => new Reply(200, {});
    expect(replayed).toMatchObject({ status: 201, json: { id: 'x' } });
    expect(replayed.headers).toMatchObject({ 'idempotency-replayed': 'true', 'x-request-id': 'mine' });
    expect(reached[0]?.args[0]).toMatchObject({ waitMs: 600_000 });
    expect((await send('GET', '/nowhere', {})).headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('know sandboxes as capsules too', async () => {
    expect((await send('GET', '/v1/capsules/sandbox1', HEADERS.team)).status).toBe(200);
    expect((await send('GET', '/v1/capsulesx', HEADERS.team)).status).toBe(404);
  });

  it('tell failures by the table, and hide what is a bug', async () => {
    answer = () => {
      throw new DomainError('operation_in_progress', 'busy', { state: 'pausing' });
    };
    expect(await send('GET', '/v1/sandboxes/:id', HEADERS.team)).toMatchObject({
      status: 409,
      json: { error: { code: 'operation_in_progress', message: 'busy', details: { state: 'pausing' } } },
    });
    answer = () => {
      throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    };
    expect(await send('GET', '/v1/sandboxes/:id', HEADERS.team)).toMatchObject({
      status: 503,
      json: { error: { details: { part: 'postgres' } } },
    });
    answer = () => {
      throw new TypeError('secret internals');
    };
    const bug = await send('GET', '/v1/sandboxes/:id', HEADERS.team);
    answer = () => new Reply(200, {});
    expect(bug).toMatchObject({ status: 500, json: { error: { code: 'internal_error' } } });
    expect(JSON.stringify(bug.json)).not.toContain('secret internals');
  });
});
