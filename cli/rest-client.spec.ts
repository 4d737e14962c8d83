import { createServer, type IncomingMessage, type Server } from 'node:http';
import { afterEach, describe, expect, it } from '@jest/globals';
import { describeProgress, waitForOperation } from './operation-wait.js';
import { collect, exitCodeOf, RestClient } from './rest-client.js';
import type { Operation } from './rest-types.js';
import { fullSandboxId } from './sandbox-id.js';

let server: Server | undefined;
afterEach(async () => {
  const running = server;
  server = undefined;
  if (running !== undefined) await new Promise((resolve) => running.close(resolve));
});

type Answer = (request: IncomingMessage) => { status?: number; body: unknown };

async function serve(answer: Answer): Promise<RestClient> {
  const listening = createServer((request, response) => {
    const { status = 200, body } = answer(request);
    response.writeHead(status, { 'Content-Type': 'application/json', Connection: 'close' }).end(JSON.stringify(body));
  });
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const address = listening.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return new RestClient({ url: `http://127.0.0.1:${address.port}`, key: 'tpr_x' });
}

function operation(overrides: Partial<Operation>): Operation {
  return {
    id: 'op1',
    kind: 'pause',
    sandbox_id: 's1',
    state: 'running',
    step: null,
    host_id: 'h1',
    run_id: 'run1',
    temporal_url: 'http://ui/run',
    started_at: '2026-01-01T00:00:00Z',
    finished_at: null,
    duration_ms: null,
    retry_of: null,
    failure: null,
    progress: null,
    ...overrides,
  };
}

describe('RestClient', () => {
  it('sends the key, the query and the idempotency key', async () => {
    const seen: IncomingMessage[] = [];
    const client = await serve((request) => {
      seen.push(request);
      return { body: { items: [], next_cursor: null } };
    });
    await client.sandboxes({ state: 'running', 'metadata[a]': 'b c', template: undefined });
    await client.create({}, 'once');
    expect(seen[0]?.url).toBe('/v1/sandboxes?state=running&metadata%5Ba%5D=b+c');
    expect(seen[0]?.headers['x-api-key']).toBe('tpr_x');
    expect(seen[1]?.headers['idempotency-key']).toBe('once');
  });

  it('turns refusals into errors with their code, suggestion and exit code', async () => {
    const error = { code: 'state_conflict', message: 'it is paused', suggestion: 'resume it' };
    const client = await serve(() => ({ status: 409, body: { error } }));
    await expect(client.pause('s1')).rejects.toMatchObject({
      message: 'it is paused',
      code: 'state_conflict',
      suggestion: 'resume it',
      exitCode: 5,
    });
  });

  it('says that nobody answers', async () => {
    const client = new RestClient({ url: 'http://127.0.0.1:1', key: 'x' });
    await expect(client.sandbox('s1')).rejects.toMatchObject({ code: 'unreachable', exitCode: 3 });
  });

  it.each([
    [400, 2],
    [401, 6],
    [404, 4],
    [409, 5],
    [503, 3],
    [504, 7],
    [500, 1],
  ])('status %d is exit code %d', (status, code) => expect(exitCodeOf(status)).toBe(code));
});

describe('collect', () => {
  it('follows the pages up to the limit', async () => {
    const pages = [
      { items: [1, 2], next_cursor: 'b' },
      { items: [3, 4], next_cursor: 'c' },
      { items: [5], next_cursor: null },
    ];
    const asked: unknown[] = [];
    const page = (query: { limit: number; cursor?: string }) => {
      asked.push(query);
      return Promise.resolve(pages[asked.length - 1] ?? { items: [], next_cursor: null });
    };
    await expect(collect(3, page)).resolves.toEqual([1, 2, 3, 4]);
    expect(asked).toEqual([{ limit: 3 }, { limit: 1, cursor: 'b' }]);
  });
});

describe('waitForOperation', () => {
  it('tells each step and returns at the end', async () => {
    const answers = [
      operation({ progress: { stage: 'quiesce', undoing: false, committed: false, pending: [] } }),
      operation({
        progress: {
          stage: 'snapshot',
          undoing: false,
          committed: false,
          pending: [{ activity: 'snapshotVm', attempt: 2, last_failure: 'disk full' }],
        },
      }),
      operation({ state: 'succeeded' }),
    ];
    const client = await serve(() => ({ body: answers.shift() }));
    const notes: string[] = [];
    await waitForOperation(client, 'op1', (text) => notes.push(text));
    expect(notes).toEqual(['quiesce', 'snapshot (snapshotVm attempt 2: disk full)']);
  });

  it('fails with what failed, what to do and where to look', async () => {
    const failure = { step: 'startVm', code: 'no_hosts_available', message: 'no room', suggestion: 'add a host' };
    const client = await serve(() => ({ body: operation({ state: 'failed', failure }) }));
    const error = await waitForOperation(client, 'op1', () => undefined).catch((reason: unknown) => reason as Error);
    expect(error).toMatchObject({ code: 'no_hosts_available', suggestion: 'add a host', exitCode: 1 });
    expect(error).toHaveProperty(
      'message',
      'pause of sandbox s1 (operation op1) failed at startVm: no room\n  http://ui/run',
    );
  });

  it('says that it is undoing', () => {
    expect(
      describeProgress(operation({ progress: { stage: 'network', undoing: true, committed: false, pending: [] } })),
    ).toBe('undoing: network');
  });
});

describe('fullSandboxId', () => {
  const known = ['abc1'.padEnd(20, '0'), 'abd2'.padEnd(20, '0')];
  const list = () => ({ body: { items: known.map((id) => ({ id })), next_cursor: null } });

  it('completes what only one begins with', async () => {
    await expect(fullSandboxId(await serve(list), 'abc')).resolves.toBe(known[0]);
  });

  it('refuses what several begin with, naming them', async () => {
    await expect(fullSandboxId(await serve(list), 'ab')).rejects.toThrow(`${known[0]}, ${known[1]}`);
  });

  it('leaves the unknown to the server, and asks nothing for a full id', async () => {
    await expect(fullSandboxId(await serve(list), 'zzz')).resolves.toBe('zzz');
    const silent = new RestClient({ url: 'http://127.0.0.1:1', key: 'x' });
    await expect(fullSandboxId(silent, known[0] ?? '')).resolves.toBe(known[0]);
  });

  it('refuses what cannot be an id', async () => {
    const silent = new RestClient({ url: 'http://127.0.0.1:1', key: 'x' });
    await expect(fullSandboxId(silent, '../etc')).rejects.toMatchObject({ exitCode: 2 });
  });
});
