import { mkdtemp, rm } from 'node:fs/promises';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ApiClient } from './api-client.js';

describe('the client of the API', () => {
  let dir: string;
  let socket: string;
  let server: Server | undefined;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ch-api-'));
    socket = join(dir, 'api');
  });
  afterEach(async () => {
    server?.closeAllConnections();
    await new Promise<unknown>((resolve) => (server ? server.close(resolve) : resolve(undefined)));
    server = undefined;
    await rm(dir, { recursive: true });
  });

  async function serve(
    answer: (asked: IncomingMessage, response: ServerResponse, body: string) => void,
  ): Promise<ApiClient> {
    const listening = createServer((asked, response) => {
      let body = '';
      asked.on('data', (chunk: Buffer) => (body += chunk.toString()));
      asked.on('end', () => answer(asked, response, body));
    });
    server = listening;
    await new Promise<void>((resolve) => listening.listen(socket, resolve));
    return new ApiClient(socket);
  }

  it('sends calls as they are described, with the length of their bodies', async () => {
    const asked: unknown[] = [];
    const client = await serve(({ method, url, headers }, response, body) => {
      asked.push([method, url, Number(headers['content-length']), headers['transfer-encoding'], body]);
      response.writeHead(204).end();
    });
    await client.pause();
    await client.snapshot('/data/saving');
    await client.resize({ desired_balloon: 4096 });
    const snapshot = '{"destination_url":"file:///data/saving"}';
    expect(asked).toEqual([
      ['PUT', '/api/v1/vm.pause', 0, undefined, ''],
      ['PUT', '/api/v1/vm.snapshot', snapshot.length, undefined, snapshot],
      ['PUT', '/api/v1/vm.resize', 24, undefined, '{"desired_balloon":4096}'],
    ]);
  });

  it('returns what is answered', async () => {
    const ping = { version: '53.0.0', build_version: 'v53.0.0', pid: 7, features: ['kvm'] };
    const client = await serve((_, response) => response.end(JSON.stringify(ping)));
    expect(await client.ping()).toEqual(ping);
  });

  it('joins the reasons of a refusal', async () => {
    const reasons = ['Error from API', 'The VM could not boot', 'No space left on device (os error 28)'];
    const client = await serve((_, response) => response.writeHead(500).end(JSON.stringify(reasons)));
    await expect(client.boot()).rejects.toMatchObject({
      code: 'command_failed',
      details: { status: 500 },
      message: `Cloud Hypervisor refused vm.boot: ${reasons.join(': ')}`,
    });
  });

  it.each([
    ['', 'no reason given'],
    ['not JSON', 'not JSON'],
  ])('takes a refusal with %j for what it says', async (body, said) => {
    const client = await serve((_, response) => response.writeHead(400).end(body));
    await expect(client.boot()).rejects.toThrow(`Cloud Hypervisor refused vm.boot: ${said}`);
  });

  it('gives every call a deadline, and says which call it was', async () => {
    const client = await serve(() => undefined);
    await expect(client.info({ timeoutMs: 30 })).rejects.toMatchObject({
      code: 'timeout',
      message: `Cloud Hypervisor did not answer vm.info on ${socket} within 30 ms`,
    });
  });

  it('has a deadline for the end of an answer, too', async () => {
    const client = await serve((_, response) => void response.writeHead(200).write('{"state":'));
    await expect(client.info({ timeoutMs: 50 })).rejects.toMatchObject({ code: 'timeout' });
  });

  it('stops with the reason of whoever stops it, before or during a call', async () => {
    const reason = new Error('cancelled by the test');
    const controller = new AbortController();
    const client = await serve(() => controller.abort(reason));
    await expect(client.info({ signal: controller.signal })).rejects.toBe(reason);
    await expect(client.info({ signal: controller.signal })).rejects.toBe(reason);
  });

  it('says that nobody answers, or nothing that makes sense', async () => {
    await expect(new ApiClient(socket).info()).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(/did not answer vm\.info on .*ENOENT/),
    });
    const client = await serve((_, response) => response.end('<html>'));
    await expect(client.info()).rejects.toThrow('answered vm.info with what is not JSON');
  });

  it('notices a VMM that ends in the middle of an answer', async () => {
    const client = await serve((asked, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('{');
      asked.socket.destroy();
    });
    await expect(client.info()).rejects.toMatchObject({ code: 'command_failed' });
  });
});
