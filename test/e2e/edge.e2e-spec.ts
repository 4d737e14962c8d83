import { beforeAll, describe, expect, it } from '@jest/globals';
import { Code, ConnectError, createClient, type Client } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { Process } from '../../proto/gen/process/process_pb.js';
import { serveHttp } from '../support/e2e-guest-network.js';
import { sendHead } from '../support/e2e-http.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

const PORT = 3000;

/** Traffic of programs, told from requests to the API by the header that names a sandbox. It needs no key of the API. */
describeOnPlatform('the edge', ({ api, nobody, tier }) => {
  let sandbox: SandboxDto;
  let other: SandboxDto;

  const to = (id: string, more: Record<string, string> = {}) => ({ 'e2b-sandbox-id': id, ...more });

  function agent(id: string, token: string | undefined, useBinaryFormat: boolean): Client<typeof Process> {
    const transport = createConnectTransport({
      baseUrl: tier.apiUrl,
      httpVersion: '1.1',
      useBinaryFormat,
      interceptors: [
        (next) => (call) => {
          for (const [name, value] of Object.entries(to(id))) call.header.set(name, value);
          if (token !== undefined) call.header.set('x-access-token', token);
          return next(call);
        },
      ],
    });
    return createClient(Process, transport);
  }

  beforeAll(async () => {
    [sandbox, other] = await Promise.all([api.create({ env: { WHERE: 'inside' } }), api.create()]);
    await serveHttp(api, sandbox.id, PORT, 'from inside');
  }, 120_000);

  describe('reaches the agent', () => {
    it('which tells of its health without a token', async () => {
      expect((await nobody.ask('GET', '/health', { headers: to(sandbox.id) })).status).toBe(204);
      // The same path without the header is the API's own.
      expect((await nobody.ask('GET', '/health')).status).toBe(200);
    });

    it.each([true, false])('which runs processes and streams what they say (binary: %s)', async (binary) => {
      const client = agent(sandbox.id, sandbox.access_token, binary);
      const said: string[] = [];
      let exitCode: number | undefined;
      const process = { cmd: '/bin/bash', args: ['-c', 'echo "$WHERE"; echo wrong >&2; exit 5'] };
      for await (const { event } of client.start({ process })) {
        if (event?.event.case === 'data') said.push(Buffer.from(event.event.value.output.value ?? []).toString());
        if (event?.event.case === 'end') exitCode = event.event.value.exitCode;
      }
      expect(said.sort()).toEqual(['inside\n', 'wrong\n']);
      expect(exitCode).toBe(5);
    });

    it('which carries files both ways', async () => {
      const headers = to(sandbox.id, { 'x-access-token': sandbox.access_token ?? '' });
      const path = '/files?path=/home/user/sent&username=user';
      const sent = await nobody.ask('POST', path, {
        text: 'sent from outside',
        headers: { ...headers, 'content-type': 'application/octet-stream' },
      });
      expect(sent.status).toBe(200);
      expect(await api.sh(sandbox.id, 'cat sent')).toBe('sent from outside');
      expect((await nobody.ask('GET', path, { headers })).body).toBe('sent from outside');
    });

    it('which asks for the token of this sandbox', async () => {
      for (const token of [undefined, 'wrong', other.access_token]) {
        const refusal = await agent(sandbox.id, token, true)
          .list({})
          .catch((error: unknown) => ConnectError.from(error));
        expect(refusal).toMatchObject({ code: Code.Unauthenticated });
      }
      expect(await agent(sandbox.id, sandbox.access_token, true).list({})).toHaveProperty('processes');
    });
  });

  it('reaches what listens on a port of the guest', async () => {
    const answer = await nobody.ask('GET', '/a/path?with=query', {
      headers: to(sandbox.id, { 'e2b-sandbox-port': String(PORT) }),
    });
    expect(answer).toMatchObject({ status: 200, body: 'from inside GET /a/path?with=query HTTP/1.1' });
  });

  it('says so when nothing listens there', async () => {
    expect((await nobody.ask('GET', '/', { headers: to(sandbox.id, { 'e2b-sandbox-port': '3001' }) })).status).toBe(
      502,
    );
  });

  it.each([
    ['POST', '/init'],
    ['POST', '/%69nit'],
    ['POST', '//init'],
    ['POST', '/x/../init'],
    ['POST', '/torpor.guest.v1.Guest/Quiesce'],
    ['POST', '/torpor.guest.v1.Guest%2fQuiesce'],
  ])('does not reach what is only for the host: %s %s', async (method, path) => {
    const headers = to(sandbox.id, { 'x-access-token': sandbox.access_token ?? '' });
    expect(await sendHead(tier.apiUrl, { method, path, headers })).toMatchObject({ status: 404 });
  });

  it('answers for a sandbox that is not there in the shape that SDKs know', async () => {
    const { status, body } = await nobody.ask('GET', '/health', { headers: to('doesnotexist') });
    expect([status, body]).toEqual([
      502,
      { sandboxId: 'doesnotexist', message: 'The sandbox was not found', code: 502 },
    ]);
  });

  it.each([
    { 'e2b-sandbox-id': 'NOT AN ID' },
    { 'e2b-sandbox-port': '0' },
    { 'e2b-sandbox-port': '65536' },
    { 'e2b-sandbox-port': 'http' },
  ])('refuses %j with a reason', async (header) => {
    const { status, body, headers } = await nobody.ask<string>('GET', '/', {
      headers: { ...to(sandbox.id), ...header },
    });
    expect([status, headers.get('content-type')]).toEqual([400, 'text/plain; charset=utf-8']);
    expect(body.toLowerCase()).toContain(Object.keys(header)[0]);
  });

  it('finds no sandbox while it is paused, and the same one afterwards', async () => {
    await api.pause(sandbox.id);
    expect(await nobody.ask('GET', '/health', { headers: to(sandbox.id) })).toMatchObject({
      status: 502,
      body: { sandboxId: sandbox.id, code: 502 },
    });
    const resumed = await api.resume(sandbox.id);
    expect(await agent(sandbox.id, resumed.access_token, true).list({})).toHaveProperty('processes');
    const answer = await nobody.ask('GET', '/', { headers: to(sandbox.id, { 'e2b-sandbox-port': String(PORT) }) });
    expect(answer.body).toBe('from inside GET / HTTP/1.1');
  });
});
