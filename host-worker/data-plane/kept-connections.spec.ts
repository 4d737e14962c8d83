import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ConnectionRegistry } from './connection-registry.js';
import { DataPlaneServer } from './data-plane.server.js';
import { AGENT_PORT } from './guest-route.js';

const TOKEN = 'data-plane-token';
/** Kept connections exist to the agent's own port only; this loopback address is nobody else's. */
const GUEST = '127.83.11.4';
const attachment = { namespace: 'sbx-s1', tap: 'tap0', mac: '02:fc:00:00:00:05', hostAddress: GUEST };

let agent: Server;
/** Connections that the guest has accepted. */
let accepted: Socket[];
let connections: ConnectionRegistry;
let plane: DataPlaneServer;
let url: string;

beforeEach(async () => {
  accepted = [];
  agent = createServer((_, res) => res.end('hello'));
  agent.on('connection', (socket) => accepted.push(socket));
  await new Promise<void>((resolve) => agent.listen(AGENT_PORT, GUEST, resolve));
  connections = new ConnectionRegistry(async () => attachment, 50);
  const consoleLog = async () => '';
  const networkCounters = async () => undefined;
  plane = new DataPlaneServer({ token: TOKEN, connections, consoleLog, networkCounters, log: { error: () => {} } });
  url = await plane.listen('127.0.0.1', 0);
});

afterEach(async () => {
  await plane.close(0);
  agent.closeAllConnections();
  await new Promise((resolve) => agent.close(resolve));
});

async function ask(): Promise<string> {
  const headers = { authorization: `Bearer ${TOKEN}` };
  return (await fetch(`${url}/sandboxes/s1/ports/${AGENT_PORT}/health`, { headers })).text();
}

const closed = (socket: Socket | undefined) =>
  socket === undefined || socket.closed ? undefined : new Promise((resolve) => socket.once('close', resolve));

describe('a kept connection to the agent', () => {
  it('serves one request after the other', async () => {
    for (let request = 0; request < 3; request += 1) expect(await ask()).toBe('hello');
    expect(accepted).toHaveLength(1);
  });

  it.each([
    ['its VM was killed', async () => connections.cut('s1')],
    ['its memory is saved', () => connections.hold('s1')],
    ['its address was given back', async () => connections.forget('s1')],
  ])('ends when %s, and the next guest at the address gets one of its own', async (_, lose) => {
    await ask();
    await lose();
    await closed(accepted[0]);
    connections.admit('s1');
    expect(await ask()).toBe('hello');
    expect(accepted).toHaveLength(2);
  });

  it('does not come back when its request ends after the guest was lost', async () => {
    let finish!: () => void;
    const arrived = new Promise<void>((resolve) => {
      agent.removeAllListeners('request');
      agent.on('request', (_, res) => {
        finish = () => res.end('hello');
        resolve();
      });
    });
    const under = ask().catch(() => 'broken');
    await arrived;
    connections.cut('s1');
    finish();
    expect(await under).toBe('broken');
    connections.admit('s1');
    agent.removeAllListeners('request');
    agent.on('request', (_, res) => res.end('next'));
    expect(await ask()).toBe('next');
    expect(accepted).toHaveLength(2);
  });
});
