import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import type { Guest } from '../../../activities/host/ports.js';
import { configOf } from './guest.conformance.js';
import { answering, flooding, ForeignService } from './foreign-services.js';

const ADDRESS = '127.0.0.1';
const GARBAGE = Buffer.from([0, 255, 13, 10, 1, 2, 3, 13, 10, 13, 10]);
/** What an answer may make the worker hold at most, beside what it holds anyway. */
const HELD_BYTES = 128 * 1024 * 1024;
const UNAVAILABLE = { code: 'guest_unavailable' };
const FAILED = { code: 'guest_failed' };

/**
 * A guest is not trusted: whatever answers at the agent's port, every call ends, with an error of the two that the steps
 * know, and in bounded memory. `open` makes a driver that takes this port for the agent's.
 */
export function describeForeignServices(name: string, open: (port: number) => Guest): void {
  describe(`Guest: ${name} before something else than its agent`, () => {
    let service: ForeignService | undefined;
    afterEach(() => service?.close());

    async function before(
      treat: (socket: Socket) => void,
    ): Promise<
      Record<'init' | 'quiesce' | 'unquiesce' | 'run', (signal?: AbortSignal) => Promise<unknown>> & { guest: Guest }
    > {
      service = await ForeignService.listen(treat);
      const guest = open(service.port);
      return {
        guest,
        init: (signal) => guest.init(ADDRESS, 'g1', configOf(), signal),
        quiesce: (signal) => guest.quiesce(ADDRESS, signal),
        unquiesce: (signal) => guest.unquiesce(ADDRESS, signal),
        run: (signal) => guest.run(ADDRESS, 'token', 'true', 100, signal),
      };
    }
    const METHODS = ['init', 'quiesce', 'unquiesce', 'run'] as const;

    it('does not take a server that fails for a guest that is ready', async () => {
      const { guest, ...calls } = await before(answering('500 Internal Server Error', [], 'broken'));
      await expect(guest.waitReady(ADDRESS, 300)).rejects.toMatchObject({
        ...UNAVAILABLE,
        message: expect.stringContaining('500'),
      });
      await expect(calls.init()).rejects.toMatchObject({ ...FAILED, message: expect.stringContaining('broken') });
      for (const method of METHODS.slice(1))
        await expect(calls[method]()).rejects.toMatchObject({ code: expect.stringMatching(/^guest_/) });
    });

    it('tells an agent of another version, which lacks what is asked of it', async () => {
      const headers = ['content-type: application/json'];
      const calls = await before(
        answering('404 Not Found', headers, '{"code":"unimplemented","message":"no such method"}'),
      );
      for (const method of METHODS) await expect(calls[method]()).rejects.toMatchObject(FAILED);
    });

    it('tells a web server that likes every request', async () => {
      const calls = await before(answering('200 OK', ['content-type: text/html'], '<html>It works!</html>'));
      for (const method of METHODS.slice(1))
        await expect(calls[method]()).rejects.toMatchObject({ code: expect.stringMatching(/^guest_/) });
    });

    it.each([
      ['speaks no HTTP', (socket: Socket) => void socket.end(GARBAGE)],
      ['hangs up', (socket: Socket) => void socket.destroy()],
      [
        'hangs up in the middle of an answer',
        (socket: Socket) =>
          void socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{')),
      ],
    ])('finds that what %s is no guest', async (_, treat) => {
      const { guest, ...calls } = await before(treat);
      await expect(guest.waitReady(ADDRESS, 300)).rejects.toMatchObject(UNAVAILABLE);
      for (const method of METHODS) await expect(calls[method]()).rejects.toMatchObject(UNAVAILABLE);
    });

    it('lets go of what accepts and never answers', async () => {
      const { guest, ...calls } = await before(() => undefined);
      const began = performance.now();
      await expect(guest.waitReady(ADDRESS, 300)).rejects.toMatchObject(UNAVAILABLE);
      expect(performance.now() - began).toBeLessThan(5_000);
      for (const method of METHODS) {
        const enough = new AbortController();
        const call = calls[method](enough.signal);
        enough.abort(new Error('enough'));
        await expect(call).rejects.toThrow('enough');
      }
      // Without a signal too: init has a deadline of its own.
      await expect(calls.init()).rejects.toMatchObject(UNAVAILABLE);
    });

    it.each([
      ['an answer without an end', 'HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\n\r\n', Buffer.alloc(0)],
      [
        'a message as long as a message can be',
        'HTTP/1.1 200 OK\r\ncontent-type: application/connect+proto\r\n\r\n',
        Buffer.from([0, 0xff, 0xff, 0xff, 0xff]),
      ],
      [
        'an error without an end',
        'HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n\r\n',
        Buffer.from('{"code":"internal","message":"'),
      ],
    ])('holds a bounded part of %s', async (_, head, first) => {
      const calls = await before(flooding(head, first));
      const held = process.memoryUsage().rss;
      for (const method of METHODS) {
        // Ends a call that would go on; what it holds by then is what counts.
        const call = calls[method](AbortSignal.timeout(1_500));
        await expect(call).rejects.toThrow();
        expect(process.memoryUsage().rss - held).toBeLessThan(HELD_BYTES);
      }
    });
  });
}
