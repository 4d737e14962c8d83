import { beforeAll, describe, expect, it } from '@jest/globals';
import { CredentialsFile } from '../../host-worker/host-credentials.js';
import type { Api } from '../support/e2e-api.js';
import { sendHead } from '../support/e2e-http.js';
import { describeOnPlatform } from '../support/e2e-suite.js';
import { ROUTES, type Subject } from './route-cases.js';
import { resolved, wrongParameters, wrongValues, type Document, type Route } from './wrong-values.js';

/** What a caller sent there may be a secret, so no answer repeats it. */
const SECRET = /^(env|stdin|stdin_base64|data_plane_token)$/;
const SHOWN_CHARACTERS = 40;

const named = Object.entries(ROUTES).map(([name, route]) => {
  const [method = '', path = ''] = name.split(' ');
  return { name, method, path, ...route };
});
const guarded = named.filter(({ access }) => access !== 'public');
const withBody = named.filter(({ body }) => body !== undefined);
const withId = named.filter(({ id }) => id !== undefined);

describeOnPlatform('wrong input', ({ api, stranger, nobody, tier }) => {
  let document: Document;
  let credentials: Record<'team' | 'operator' | 'host' | 'registration' | 'public', Record<string, string>>;
  const there: Record<string, string> = {};

  const at = (path: string, id: string) => path.replace('{id}', id);
  const operationAt = (name: string): Route => {
    const [method = '', path = ''] = name.split(' ');
    const route = document.paths[path]?.[method.toLowerCase()];
    if (!route) throw new Error(`the document has no ${name}`);
    return route;
  };
  const pathOf = ({ path, id }: { path: string; id?: Subject }) => at(path, id === undefined ? '' : (there[id] ?? ''));

  async function expectInvalid(answer: ReturnType<Api['refused']>, field: string, value?: unknown): Promise<void> {
    const { status, code, message } = await answer;
    expect({ status, code, message }).toEqual({
      status: 400,
      code: 'invalid_request',
      message: expect.stringContaining(field),
    });
    if (value === undefined) return;
    const shown = JSON.stringify(value).slice(0, SHOWN_CHARACTERS);
    if (SECRET.test(field)) expect(message).not.toContain('a'.repeat(SHOWN_CHARACTERS));
    else expect(message).toContain(shown);
  }

  beforeAll(async () => {
    document = await nobody.get<Document>('/openapi.json');
    const { registered } = await new CredentialsFile(tier.hostDirectory).load();
    credentials = {
      public: {},
      team: { 'x-api-key': tier.apiKey },
      // The first key of a platform is that of who operates it.
      operator: { 'x-api-key': tier.apiKey },
      host: { 'x-host-token': registered?.token ?? '' },
      registration: { 'x-registration-token': tier.registrationToken },
    };
    const { id } = await api.create();
    const [operation] = await api.operations(`sandbox_id=${id}`);
    const { items } = await api.get<{ items: { id: string }[] }>('/v1/templates/builds?state=ready&limit=1');
    Object.assign(there, { sandbox: id, operation: operation?.id, build: items[0]?.id });
  }, 120_000);

  it('is tried on every route there is', () => {
    const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { security }]) => [
        `${method.toUpperCase()} ${path}`,
        Object.keys(security?.[0] ?? { public: [] })[0],
      ]),
    );
    expect(Object.fromEntries(routes)).toEqual(Object.fromEntries(named.map(({ name, access }) => [name, access])));
  });

  it.each(guarded)('without a key, or with a wrong one: $name', async ({ method, access, body, ...route }) => {
    const [[header, key] = ['', '']] = Object.entries(credentials[access]);
    const wrong = [undefined, '', 'nonsense', `${key}0`, key.replace(/.$/, (last) => (last === '0' ? '1' : '0'))];
    for (const value of wrong) {
      const headers = value === undefined ? {} : { [header]: value };
      const { status, code, message } = await nobody.refused(method, pathOf(route), { body, headers });
      expect([value, status, code]).toEqual([value, 401, 'unauthorized']);
      expect(message).not.toContain(key);
    }
    // A key for something else opens nothing here.
    const others = guarded.map((each) => credentials[each.access]).filter((other) => Object.values(other)[0] !== key);
    for (const other of others) {
      expect(await nobody.refused(method, pathOf(route), { body, headers: other })).toMatchObject({ status: 401 });
    }
  });

  it.each(named.filter(({ access }) => access === 'operator'))(
    'with the key of somebody who operates nothing: $name',
    async ({ method, body, ...route }) => {
      expect(await stranger.refused(method, pathOf(route), { body })).toMatchObject({ status: 403, code: 'forbidden' });
    },
  );

  it.each(withId.filter(({ access }) => access === 'team'))(
    'with the key of another team: $name',
    async ({ method, body, ...route }) => {
      const theirs = await stranger.refused(method, pathOf(route), { body });
      const absent = await stranger.refused(method, at(route.path, 'doesnotexist'), { body });
      expect(theirs).toMatchObject({ status: 404, code: 'not_found' });
      // Nothing tells what is somebody else's from what is not there.
      expect(theirs.message.replace(there[route.id ?? ''] ?? '', 'doesnotexist')).toBe(absent.message);
    },
  );

  it('with the key of another team: lists hold nothing that is not its own', async () => {
    for (const path of ['/v1/sandboxes?state=running,stopped', '/v1/operations', '/v1/templates/builds']) {
      expect([path, await stranger.get(path)]).toEqual([path, { items: [], next_cursor: null }]);
    }
  });

  it.each(withId)('with an id of nothing: $name', async ({ method, path, access, body, id }) => {
    const question = { body, headers: credentials[access] };
    const unknown = await nobody.refused(method, at(path, 'doesnotexist'), question);
    expect(unknown).toMatchObject({ status: 404, code: 'not_found' });
    if (id !== undefined) expect(unknown.message).toContain('doesnotexist');
    for (const odd of ['a\0b', 'UPPER', '../x', "x' OR 1=1", '💩', 'x'.repeat(90)]) {
      await expectInvalid(nobody.refused(method, at(path, encodeURIComponent(odd)), question), 'id', odd);
    }
  });

  it.each(withBody)('in every field of the body: $name', async ({ name, method, access, body = {}, ...route }) => {
    const headers = credentials[access];
    const content = operationAt(name).requestBody?.content['application/json'].schema;
    if (!content) throw new Error(`the document has no body for ${name}`);
    const { properties = {}, required = [] } = resolved(document, content);
    const send = (sent: unknown) => nobody.refused(method, pathOf(route), { body: sent, headers });
    for (const [field, schema] of Object.entries(properties)) {
      // What may be left out may be null as well.
      const values = wrongValues(schema).filter((value) => value !== null || required.includes(field));
      for (const value of values) await expectInvalid(send({ ...body, [field]: value }), field, value);
    }
    for (const field of required) await expectInvalid(send({ ...body, [field]: undefined }), field);
    await expectInvalid(send({ ...body, no_such_field: 1 }), 'no_such_field');
  });

  it.each(withBody)('in the whole body: $name', async ({ method, access, body = {}, wrong = [], ...route }) => {
    const headers = credentials[access];
    for (const [change, field] of wrong) {
      const question = { body: { ...body, ...change }, headers };
      await expectInvalid(nobody.refused(method, pathOf(route), question), field);
    }
    for (const text of ['{', '[]', '"text"', '17', '{"__proto__": {"x": 1}}']) {
      const { status, code } = await nobody.refused(method, pathOf(route), { text, headers });
      expect([text, status, code]).toEqual([text, 400, 'invalid_request']);
    }
    // Decided by what is announced; nothing of it needs to be sent.
    const announced = { ...headers, 'content-type': 'application/json', 'content-length': String(21 * 1024 * 1024) };
    const { status, body: refusal } = await sendHead(tier.apiUrl, { method, path: pathOf(route), headers: announced });
    expect([status, JSON.parse(refusal)]).toEqual([413, { error: expect.objectContaining({ code: 'too_large' }) }]);
  });

  it.each(named)('in every parameter: $name', async ({ name, method, access, body, ...route }) => {
    for (const parameter of operationAt(name).parameters ?? []) {
      if (parameter.in === 'path') continue;
      if (parameter.in === 'header') {
        for (const value of ['', 'x'.repeat(129)]) {
          const headers = { ...credentials[access], [parameter.name]: value };
          await expectInvalid(nobody.refused(method, pathOf(route), { body, headers }), parameter.name);
        }
        continue;
      }
      for (const value of wrongParameters(parameter)) {
        const query = `?${parameter.name}=${encodeURIComponent(value)}`;
        const answer = nobody.refused(method, pathOf(route) + query, { body, headers: credentials[access] });
        await expectInvalid(answer, parameter.name);
      }
    }
  });

  describe('at the wrong time', () => {
    const refused = (state: string) => named.filter(({ refusedWhen = [] }) => refusedWhen.includes(state));

    async function expectConflicts(state: string): Promise<void> {
      const routes = refused(state);
      expect(routes.length).toBeGreaterThan(0);
      for (const { name, method, body, ...route } of routes) {
        const { status, code, message, details } = await api.refused(method, pathOf(route), { body });
        expect([name, status, code, details?.['state']]).toEqual([name, 409, 'state_conflict', state]);
        expect(message).toContain(state);
      }
    }

    it.each(['running', 'succeeded', 'ready'])('when its subject is %s', (state) => expectConflicts(state));

    it('when its subject is paused', async () => {
      await api.pause(there['sandbox'] ?? '');
      await expectConflicts('paused');
    });

    it('when its subject is stopped, which may be destroyed all the same', async () => {
      await api.destroy(there['sandbox'] ?? '');
      await expectConflicts('stopped');
      expect(await api.destroy(there['sandbox'] ?? '')).toMatchObject({ state: 'stopped' });
    });
  });

  it('to a host about what is on another one', async () => {
    const registered = { body: ROUTES['POST /v1/hosts/register']?.body, headers: credentials.registration };
    const { status, body } = await nobody.ask<{ token: string }>('POST', '/v1/hosts/register', registered);
    expect(status).toBe(201);
    const headers = { 'x-host-token': body.token };
    const { id } = await api.create();
    const path = `/v1/hosts/self/sandboxes/${id}/guest-config`;
    expect((await nobody.ask('GET', path, { headers: credentials.host })).status).toBe(200);
    expect(await nobody.refused('GET', path, { headers })).toMatchObject({ status: 404, code: 'not_found' });
    expect((await nobody.ask('GET', '/v1/hosts/self/sandboxes', { headers })).body).toEqual({ items: [] });
  });

  it('in the address: there is no such route', async () => {
    for (const path of ['/v1/nothing', '/', '/v1/sandboxes/x/y', '/v1/../etc/passwd']) {
      expect([path, await api.refused('GET', path)]).toEqual([
        path,
        expect.objectContaining({ status: 404, code: 'not_found' }),
      ]);
    }
  });

  it('is the same by the other name of the sandboxes', async () => {
    const [one, other] = await Promise.all(
      ['sandboxes', 'capsules'].map((name) => api.refused('GET', `/v1/${name}/doesnotexist`)),
    );
    expect(other).toEqual(one);
  });
});
