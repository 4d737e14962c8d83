import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { type Socket, createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { MemoryReceiver } from './memory-file.js';

const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const forever = new AbortController().signal;
let dir = '';
let receiver: MemoryReceiver;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'memory-'));
  receiver = await MemoryReceiver.listen(join(dir, 'socket'), join(dir, 'file'), owner);
});
afterEach(async () => {
  await receiver.close();
  await rm(dir, { recursive: true });
});

async function sender(): Promise<Socket> {
  const socket = createConnection(join(dir, 'socket'));
  socket.on('error', () => undefined);
  await once(socket.resume(), 'connect');
  return socket;
}

describe('MemoryReceiver', () => {
  it('writes and hashes what is sent, however much', async () => {
    const content = randomBytes(40 * 1024 * 1024 + 17);
    const received = receiver.receive(forever);
    (await sender()).end(content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    expect(await received).toEqual({ bytes: content.length, sha256 });
    expect((await readFile(join(dir, 'file'))).equals(content)).toBe(true);
  });

  it('ends at the signal, before and after the sender has connected', async () => {
    const early = new AbortController();
    const waiting = receiver.receive(early.signal);
    early.abort(new Error('cancelled'));
    await expect(waiting).rejects.toThrow('cancelled');

    const late = new AbortController();
    const receiving = receiver.receive(late.signal);
    const socket = await sender();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write('half');
    await new Promise((resolve) => setImmediate(resolve));
    late.abort(new Error('cancelled'));
    await expect(receiving).rejects.toThrow('cancelled');
    await receiver.close();
    await closed;
  });

  it('removes its socket', async () => {
    await receiver.close();
    expect(await readdir(dir)).not.toContain('socket');
  });
});
