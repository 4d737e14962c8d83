import { type Client, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { beforeAll, expect, it } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { identityOf } from '../../cli/platform/process-identity.js';
import { Process, type ProcessEvent, Signal } from '../../proto/gen/process/process_pb.js';
import { deferred } from '../support/deferred.js';
import { readCounter, startCounter, type CounterReading } from '../support/e2e-counter.js';
import { eventually } from '../support/e2e-eventually.js';
import { type ProcessName, machineOf, processOf, succeeded } from '../support/e2e-processes.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

interface Followed {
  /** The numbers that the program has printed. */
  said: number[];
  exitCode?: number;
  /** How the stream broke. */
  error?: unknown;
}

/** Reads a program's events until its stream ends, however it does. */
async function follow(
  events: AsyncIterable<{ event?: ProcessEvent | undefined }>,
  at: (now: { pid: number; count: number }) => void,
): Promise<Followed> {
  const followed: Followed = { said: [] };
  let [pid, text] = [0, ''];
  try {
    for await (const { event } of events) {
      if (event?.event.case === 'start') pid = event.event.value.pid;
      if (event?.event.case === 'end') followed.exitCode = event.event.value.exitCode;
      if (event?.event.case !== 'data') continue;
      text += Buffer.from(event.event.value.output.value ?? []).toString();
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      followed.said.push(...lines.map(Number));
      at({ pid, count: followed.said.at(-1) ?? 0 });
    }
  } catch (error) {
    followed.error = error;
  }
  return followed;
}

describeOnPlatform(
  'a process that ends',
  ({ api, tier }) => {
    let sandbox: SandboxDto;
    let began: CounterReading;

    /** Returns when another process has taken its place. */
    async function end(name: ProcessName, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
      const before = await processOf(tier, name);
      process.kill(before.pid, signal);
      await succeeded(tier, name, before);
    }

    function agent(): Client<typeof Process> {
      const transport = createConnectTransport({
        baseUrl: tier.apiUrl,
        httpVersion: '1.1',
        interceptors: [
          (next) => (call) => {
            call.header.set('e2b-sandbox-id', sandbox.id);
            call.header.set('x-access-token', sandbox.access_token ?? '');
            return next(call);
          },
        ],
      });
      return createClient(Process, transport);
    }

    const counts = () =>
      eventually('programs run in the guest', () => readCounter(api, sandbox.id).catch(() => undefined));
    const isPaused = () =>
      eventually(
        'the pause is completed',
        async () => ((await api.sandbox(sandbox.id)).state === 'paused' ? true : undefined),
        120_000,
      );

    beforeAll(async () => {
      sandbox = await api.create();
      await startCounter(api, sandbox.id);
      began = await readCounter(api, sandbox.id);
    }, 120_000);

    it.each(['SIGTERM', 'SIGKILL'] as const)(
      'by %s, the host worker, leaves its machines running and comes back to them',
      async (signal) => {
        const [vm, before] = [await machineOf(tier, sandbox.id), await counts()];
        await end('host-worker', signal);
        expect(identityOf(vm.pid)?.startTime).toBe(vm.startTime);
        const after = await counts();
        expect(after.process).toBe(began.process);
        expect(after.count).toBeGreaterThan(before.count);
        expect(await machineOf(tier, sandbox.id)).toEqual(vm);
        expect(await api.sandbox(sandbox.id)).toMatchObject({ state: 'running' });
      },
    );

    it.each(['SIGTERM', 'SIGKILL'] as const)(
      'by %s, the host worker, breaks streams so that their readers know, and the program behind one goes on',
      async (signal) => {
        const client = agent();
        const program = { cmd: '/bin/bash', args: ['-c', 'n=0; while :; do echo $((n += 1)); sleep 0.05; done'] };
        const begun = deferred<number>();
        const first = follow(client.start({ process: program }), ({ pid }) => begun.resolve(pid));
        const pid = await begun.promise;
        await end('host-worker', signal);

        const broken = await first;
        expect(broken.error).toBeInstanceOf(ConnectError);
        expect(broken.exitCode).toBeUndefined();
        const last = broken.said.at(-1) ?? 0;
        expect(broken.said).toEqual(Array.from({ length: last }, (_, index) => index + 1));

        // The same program, to which any client can come back.
        const selector = { process: { selector: { case: 'pid' as const, value: pid } } };
        const attached = deferred<number>();
        const again = eventually('a client comes back', async () => {
          const followed = await follow(
            client.connect(selector),
            ({ count }) => count > last && attached.resolve(count),
          );
          return followed.said.length > 0 ? followed : undefined;
        });
        expect(await attached.promise).toBeGreaterThan(last);
        await client.sendSignal({ ...selector, signal: Signal.SIGKILL });
        const { said, exitCode, error } = await again;
        expect(error).toBeUndefined();
        expect(exitCode).toBeDefined();
        expect(said.every((count, index) => index === 0 || count === (said[index - 1] ?? 0) + 1)).toBe(true);
        expect((await counts()).process).toBe(began.process);
      },
    );

    it('was the host worker: the next one pauses and resumes what it found', async () => {
      await api.pause(sandbox.id);
      expect(await api.resume(sandbox.id)).toMatchObject({ state: 'running' });
      expect((await counts()).process).toBe(began.process);
    });

    it('by SIGKILL, the host worker in the middle of a pause, does not keep it from being completed', async () => {
      const { operation } = await api.start(sandbox.id, 'pause');
      await end('host-worker', 'SIGKILL');
      await isPaused();
      expect(await api.operation(operation?.id ?? '')).toMatchObject({ state: 'succeeded' });
      await api.resume(sandbox.id);
      expect((await counts()).process).toBe(began.process);
    });

    it.each(['SIGTERM', 'SIGKILL'] as const)(
      'by %s, the control worker during a pause, does not keep it from being completed',
      async (signal) => {
        const { operation } = await api.start(sandbox.id, 'pause');
        await end('control-worker', signal);
        await isPaused();
        expect(await api.operation(operation?.id ?? '')).toMatchObject({ state: 'succeeded', failure: null });
        await api.resume(sandbox.id);
        expect((await counts()).process).toBe(began.process);
      },
    );

    it('by SIGKILL, the API, has nothing that could be lost', async () => {
      const { operation } = await api.start(sandbox.id, 'pause');
      await end('api', 'SIGKILL');
      await eventually('the API answers', () => api.get('/health/ready').catch(() => undefined));
      await isPaused();
      expect(await api.operation(operation?.id ?? '')).toMatchObject({ state: 'succeeded' });
      await api.resume(sandbox.id);
      expect((await counts()).process).toBe(began.process);
    });
  },
  { restarts: true },
);
