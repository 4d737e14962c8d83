import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Guest, GuestConfig } from '../../../activities/host/ports.js';
import { callUnderWay } from './calls-under-way.js';
import { environment, type GuestHarness, type GuestMachine } from './guest-harness.js';

const READY_MS = 60_000;
const OUTPUT_BYTES = 10_000;
const TOKEN = 'token of these tests';

export function configOf(more: Partial<GuestConfig> = {}): GuestConfig {
  return { accessToken: TOKEN, env: {}, templateId: 'minimal', user: 'root', ...more };
}

/** Every driver of `Guest`, with whichever agent answers it, must pass this. */
export function describeGuestConformance(name: string, make: () => Promise<GuestHarness>): void {
  describe(`Guest: ${name}`, () => {
    let harness: GuestHarness;
    let guest: Guest;
    let one: GuestMachine;
    beforeAll(async () => {
      harness = await make();
      ({ guest, one } = harness);
    }, 120_000);
    afterAll(() => harness?.dispose(), 60_000);
    beforeEach(() => ready(one));

    async function ready(machine: GuestMachine, config = configOf()): Promise<void> {
      await machine.start();
      await guest.waitReady(machine.address, READY_MS);
      await guest.init(machine.address, machine.id, config);
    }

    const run = (command: string, machine = one, signal?: AbortSignal) =>
      guest.run(machine.address, TOKEN, command, OUTPUT_BYTES, signal);

    describe('waiting', () => {
      it('returns as soon as the agent answers, whoever asks and how often', async () => {
        await Promise.all([
          guest.waitReady(one.address, READY_MS),
          guest.waitReady(one.address, READY_MS),
          harness.restarted().waitReady(one.address, READY_MS),
        ]);
      });

      it('finds a guest that comes up while it waits', async () => {
        await one.crash();
        const waiting = guest.waitReady(one.address, READY_MS);
        await one.start();
        await waiting;
      });

      it('gives up at its deadline, and not long after it', async () => {
        await one.crash();
        const began = performance.now();
        await expect(guest.waitReady(one.address, 400)).rejects.toMatchObject({
          code: 'guest_unavailable',
          message: expect.stringContaining(one.address),
        });
        await expect(guest.waitReady(one.address, 0)).rejects.toMatchObject({ code: 'guest_unavailable' });
        expect(performance.now() - began).toBeLessThan(5_000);
      });

      it('gives up at its deadline on a guest that stands still', async () => {
        await one.freeze();
        try {
          await expect(guest.waitReady(one.address, 400)).rejects.toMatchObject({ code: 'guest_unavailable' });
        } finally {
          await one.thaw();
        }
      });
    });

    describe('init', () => {
      it('gives what programs see, and replaces what was given before', async () => {
        await guest.init(one.address, one.id, configOf({ env: { A: '1', B: '2' } }));
        expect(await environment(one.address, TOKEN)).toMatchObject({ A: '1', B: '2', TORPOR_SANDBOX_ID: one.id });
        await guest.init(one.address, one.id, configOf({ env: { B: '3' }, templateId: 'another' }));
        const now = await environment(one.address, TOKEN);
        expect(now).toMatchObject({ B: '3', TORPOR_SANDBOX_ID: one.id, TORPOR_TEMPLATE_ID: 'another' });
        expect(now).not.toHaveProperty('A');
      });

      it('may be repeated by whichever worker, and changes nothing then', async () => {
        const config = configOf({ env: { SAME: 'yes' } });
        await guest.init(one.address, one.id, config);
        const first = await environment(one.address, TOKEN);
        await harness.restarted().init(one.address, one.id, config);
        expect(await environment(one.address, TOKEN)).toEqual(first);
      });

      it('takes a new token, after which the old one opens nothing', async () => {
        await guest.init(one.address, one.id, configOf({ accessToken: 'newer' }));
        expect(await environment(one.address, TOKEN)).toBe(401);
        expect(await environment(one.address, 'newer')).toMatchObject({ TORPOR_SANDBOX_ID: one.id });
        await expect(run(harness.commands.silent)).rejects.toMatchObject({ code: 'guest_failed' });
        expect(await guest.run(one.address, 'newer', harness.commands.silent, 10)).toMatchObject({ exitCode: 0 });
      });

      it('keeps values as they are, however odd', async () => {
        const env = { EMPTY: '', LINES: 'a\nb', QUOTES: `'"$(x)\\`, FOREIGN: 'déjà vu ☃', LONG: 'x'.repeat(20_000) };
        await guest.init(one.address, one.id, configOf({ env }));
        expect(await environment(one.address, TOKEN)).toMatchObject(env);
      });
    });

    describe('quiesce', () => {
      it('may be repeated, and a guest serves on after unquiesce as after init', async () => {
        await guest.quiesce(one.address);
        await harness.restarted().quiesce(one.address);
        await guest.unquiesce(one.address);
        await guest.unquiesce(one.address);
        expect(await run(harness.commands.silent)).toMatchObject({ exitCode: 0 });
        await guest.quiesce(one.address);
        await guest.init(one.address, one.id, configOf());
        expect(await run(harness.commands.silent)).toMatchObject({ exitCode: 0 });
      });

      it('can be taken back where it never was', async () => {
        await guest.unquiesce(one.address);
        expect(await run(harness.commands.silent)).toMatchObject({ exitCode: 0 });
      });

      it('leaves token and environment as they are', async () => {
        await guest.init(one.address, one.id, configOf({ env: { KEPT: 'yes' } }));
        await guest.quiesce(one.address);
        await guest.unquiesce(one.address);
        expect(await environment(one.address, TOKEN)).toMatchObject({ KEPT: 'yes' });
      });
    });

    describe('run', () => {
      it('gives the output and the exit code, of failures too', async () => {
        const { silent, prints, fails } = harness.commands;
        expect(await run(silent)).toEqual({ exitCode: 0, output: '', durationMs: expect.any(Number) });
        expect(await run(prints.command)).toMatchObject({
          exitCode: 0,
          output: expect.stringMatching(prints.output),
        });
        expect(await run(fails.command)).toMatchObject({
          exitCode: fails.exitCode,
          output: expect.stringMatching(fails.output),
        });
      });

      it('keeps the end of the output and says how much it left out', async () => {
        const { command } = harness.commands.prints;
        const whole = (await run(command)).output;
        const { output } = await guest.run(one.address, TOKEN, command, 3);
        expect(output).toMatch(new RegExp(`^\\[${whole.length - 3} bytes before this were left out\\]\\n`));
        expect((await guest.run(one.address, TOKEN, command, 0)).output).toMatch(/^\[\d+ bytes .* left out\]\n$/);
      });

      it('is refused without the right token', async () => {
        await expect(guest.run(one.address, 'a guess', harness.commands.silent, 10)).rejects.toMatchObject({
          code: 'guest_failed',
        });
      });
    });

    describe('at once', () => {
      it('serves many calls on one guest', async () => {
        const calls = Array.from({ length: 8 }, () => [
          guest.waitReady(one.address, READY_MS),
          guest.init(one.address, one.id, configOf()),
          guest.quiesce(one.address),
          guest.unquiesce(one.address),
          run(harness.commands.silent).then(({ exitCode }) => expect(exitCode).toBe(0)),
        ]);
        // An init behind a quiesce takes the guest for a restored one and cuts what was open: those calls alone may fail.
        const ends = await Promise.allSettled(calls.flat());
        for (const end of ends) {
          if (end.status === 'rejected') expect(end.reason).toMatchObject({ code: 'guest_unavailable' });
        }
        await guest.init(one.address, one.id, configOf());
        expect(await run(harness.commands.silent)).toMatchObject({ exitCode: 0 });
      });

      it('does not take one guest for another', async () => {
        const { other } = harness;
        await ready(other, configOf({ env: { WHO: 'other' } }));
        await Promise.all(
          Array.from({ length: 5 }, () => [
            guest.init(one.address, one.id, configOf({ env: { WHO: 'one' } })),
            guest.init(other.address, other.id, configOf({ env: { WHO: 'other' } })),
          ]).flat(),
        );
        expect(await environment(one.address, TOKEN)).toMatchObject({ WHO: 'one', TORPOR_SANDBOX_ID: one.id });
        expect(await environment(other.address, TOKEN)).toMatchObject({ WHO: 'other', TORPOR_SANDBOX_ID: other.id });
        await other.crash();
        expect(await run(harness.commands.silent)).toMatchObject({ exitCode: 0 });
        await expect(run(harness.commands.silent, other)).rejects.toMatchObject({ code: 'guest_unavailable' });
      });
    });

    /** Each call, with the guest standing still so that it is in its middle for as long as the test needs. */
    const calls: Record<string, (signal?: AbortSignal) => Promise<unknown>> = {
      waitReady: (signal) => guest.waitReady(one.address, READY_MS, signal),
      init: (signal) => guest.init(one.address, one.id, configOf(), signal),
      quiesce: (signal) => guest.quiesce(one.address, signal),
      unquiesce: (signal) => guest.unquiesce(one.address, signal),
      run: (signal) => run(harness.commands.silent, one, signal),
    };

    describe.each(Object.keys(calls))('in the middle of %s', (method) => {
      const call = (signal?: AbortSignal): Promise<unknown> =>
        calls[method]?.(signal) ?? Promise.reject(new Error(method));
      /** What became of it, so that nothing is left unwatched while the test does something else. */
      const outcome = (promise: Promise<unknown>): Promise<unknown> =>
        promise.then(
          () => 'done',
          (err: unknown) => err,
        );

      it('a guest that stands still is waited for', async () => {
        await one.freeze();
        const ended = outcome(call());
        await callUnderWay(one.address);
        await one.thaw();
        expect(await ended).toBe('done');
      });

      it('a guest that dies is told from one that refuses, and a fresh one takes the call', async () => {
        await one.freeze();
        const ended = outcome(call());
        await callUnderWay(one.address);
        await one.crash();
        // Waiting goes on until its deadline, and finds the next guest.
        if (method !== 'waitReady') expect(await ended).toMatchObject({ code: 'guest_unavailable' });
        await ready(one);
        if (method === 'waitReady') expect(await ended).toBe('done');
        await call();
      });

      it('a caller that gives up is let go, and what it asked for can be asked again', async () => {
        const abort = new AbortController();
        await one.freeze();
        const ended = outcome(call(abort.signal));
        await callUnderWay(one.address);
        abort.abort(new Error('enough'));
        // A run tries to kill its program first, for a few seconds.
        expect(await ended).toMatchObject({ message: 'enough' });
        await one.thaw();
        await call();
      });

      it('a call is not begun for a caller that has given up', async () => {
        await expect(call(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
      });

      it('an absent guest is found to be absent', async () => {
        await one.crash();
        if (method === 'waitReady') return expect(guest.waitReady(one.address, 200)).rejects.toMatchObject(ABSENT);
        await expect(call()).rejects.toMatchObject(ABSENT);
      });
    });

    it('tells an address that leads nowhere from a guest', async () => {
      const nowhere = 'no-such-host.invalid';
      await expect(guest.waitReady(nowhere, 200)).rejects.toMatchObject(ABSENT);
      await expect(guest.init(nowhere, one.id, configOf())).rejects.toMatchObject(ABSENT);
      await expect(guest.quiesce(nowhere)).rejects.toMatchObject(ABSENT);
      await expect(guest.unquiesce(nowhere)).rejects.toMatchObject(ABSENT);
      await expect(guest.run(nowhere, TOKEN, 'true', 10)).rejects.toMatchObject(ABSENT);
    });
  });
}

const ABSENT = { code: 'guest_unavailable' };
