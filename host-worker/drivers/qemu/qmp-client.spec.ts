import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type Server, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { QmpClient } from './qmp-client.js';

interface Command {
  execute: string;
  arguments: Record<string, unknown>;
  id: number;
}
type Answers = Record<string, (command: Command, send: (message: unknown) => void, socket: Socket) => void>;

let dir = '';
let path = '';
let server: Server;
const sockets = new Set<Socket>();
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'qmp-'));
  path = join(dir, 'control');
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  server.close();
  await rm(dir, { recursive: true });
});

/** Speaks as QEMU does, on a real socket. */
async function listen(answers: Answers, greet = true): Promise<void> {
  server = createServer((socket) => {
    sockets.add(socket);
    const send = (message: unknown): void => void socket.write(`${JSON.stringify(message)}\r\n`);
    socket.on('error', () => undefined);
    if (greet) send({ QMP: { version: {}, capabilities: ['oob'] } });
    socket.on('data', (data) => {
      for (const line of data.toString().trim().split('\n')) {
        const command = JSON.parse(line) as Command;
        if (command.execute === 'qmp_capabilities') send({ return: {}, id: command.id });
        else answers[command.execute]?.(command, send, socket);
      }
    });
  });
  server.listen(path);
  await once(server, 'listening');
}

describe('QmpClient', () => {
  it('matches answers to commands, with events in between', async () => {
    await listen({
      slow: ({ id }, send) => void setTimeout(() => send({ return: 'slow', id }), 30),
      fast: ({ id, arguments: args }, send) => {
        send({ event: 'STOP', timestamp: {} });
        send({ return: args, id });
      },
    });
    const client = await QmpClient.connect(path);
    const answers = await Promise.all([client.execute('slow'), client.execute('fast', { a: 1 })]);
    expect(answers).toEqual(['slow', { a: 1 }]);
    client.close();
  });

  it('reports what QEMU refuses, and goes on', async () => {
    await listen({
      no: ({ id }, send) => send({ error: { class: 'GenericError', desc: 'not now' }, id }),
      yes: ({ id }, send) => send({ return: {}, id }),
    });
    await QmpClient.with(path, {}, async (client) => {
      await expect(client.execute('no')).rejects.toMatchObject({
        code: 'command_failed',
        message: 'QEMU refused no: not now',
      });
      expect(await client.execute('yes')).toEqual({});
    });
  });

  it('waits for the event it is asked for', async () => {
    await listen({
      migrate: ({ id }, send) => {
        send({ return: {}, id });
        for (const status of ['setup', 'active', 'completed']) send({ event: 'MIGRATION', data: { status } });
      },
    });
    const client = await QmpClient.connect(path);
    const done = client.event('MIGRATION', ({ status }) => status === 'completed', {});
    await client.execute('migrate');
    expect(await done).toEqual({ event: 'MIGRATION', data: { status: 'completed' } });
    client.close();
  });

  it('gives up at its deadline, at the signal and when the connection ends', async () => {
    await listen({ hang: () => undefined, die: (_command, _send, socket) => void socket.destroy() });
    const client = await QmpClient.connect(path);
    await expect(client.execute('hang', {}, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'timeout' });
    const controller = new AbortController();
    const hanging = client.execute('hang', {}, { signal: controller.signal });
    controller.abort(new Error('cancelled'));
    await expect(hanging).rejects.toThrow('cancelled');
    const event = client.event('NEVER', () => true, {});
    await expect(client.execute('die')).rejects.toMatchObject({ code: 'command_failed' });
    await expect(event).rejects.toMatchObject({ message: expect.stringContaining('closed the connection') });
    await expect(client.execute('hang')).rejects.toMatchObject({
      message: expect.stringContaining('closed the connection'),
    });
  });

  it('does not wait for ever for a greeting, which QEMU keeps back while it talks to another', async () => {
    await listen({}, false);
    await expect(QmpClient.connect(path, { timeoutMs: 30 })).rejects.toMatchObject({ code: 'timeout' });
    await expect(QmpClient.connect(join(dir, 'none'))).rejects.toMatchObject({ code: 'command_failed' });
  });
});
