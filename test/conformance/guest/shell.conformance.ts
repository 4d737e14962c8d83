import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Guest, GuestRun } from '../../../activities/host/ports.js';
import { eventually } from '../../support/e2e-eventually.js';
import type { GuestHarness, GuestMachine } from './guest-harness.js';
import { configOf } from './guest.conformance.js';

const READY_MS = 60_000;
const OUTPUT_BYTES = 64 * 1024;

/** What can only be asked of a guest in which there is a Linux: a shell, programs that go on, a disk that fills up. */
export function describeGuestShellConformance(name: string, make: () => Promise<GuestHarness>): void {
  describe(`Guest with a shell: ${name}`, () => {
    let harness: GuestHarness;
    let guest: Guest;
    let one: GuestMachine;
    beforeAll(async () => {
      harness = await make();
      ({ guest, one } = harness);
    }, 120_000);
    afterAll(() => harness?.dispose(), 60_000);
    beforeEach(async () => {
      await one.start();
      await guest.waitReady(one.address, READY_MS);
      await guest.init(one.address, one.id, configOf());
    });

    const run = (command: string, signal?: AbortSignal): Promise<GuestRun> =>
      guest.run(one.address, configOf().accessToken, command, OUTPUT_BYTES, signal);
    const exists = async (path: string): Promise<boolean> => (await run(`test -e ${path}`)).exitCode === 0;
    const begun = (path: string): Promise<true> =>
      eventually(path, async () => ((await exists(path)) ? true : undefined));

    /** Leaves its pid in a file and goes on for much longer than any test. */
    const lasting = (file: string): string => `echo $$ > ${file}.new; mv ${file}.new ${file}; exec sleep 600`;
    async function pidIn(file: string): Promise<number> {
      await begun(file);
      return Number((await run(`cat ${file}`)).output);
    }

    it('runs a shell as root, with the environment of the sandbox and both streams in the output', async () => {
      await guest.init(one.address, one.id, configOf({ env: { GREETING: 'hello $HOME' } }));
      const { exitCode, output } = await run('id -u; printf "%s\\n" "$GREETING"; echo err >&2; printf "☃"; exit 7');
      expect(exitCode).toBe(7);
      expect(output.replace('err\n', '')).toBe('0\nhello $HOME\n☃');
      expect(output).toContain('err\n');
    });

    it('keeps the end of what is much more than it may keep', async () => {
      const { exitCode, output } = await guest.run(one.address, configOf().accessToken, 'seq 1 400000', 1_000);
      expect(exitCode).toBe(0);
      expect(output).toMatch(/^\[\d{7} bytes before this were left out\]\n/);
      expect(output).toMatch(/\n399999\n400000\n$/);
      expect(output.length).toBeLessThan(1_100);
    });

    it('says which signal ended a command', async () => {
      expect(await run('kill -9 $$')).toMatchObject({ exitCode: -1, output: '\n[ended by signal: killed]\n' });
    });

    it('kills a command, with all that it started, for a caller that gives up', async () => {
      const abort = new AbortController();
      const running = run(`sleep 600 & echo $! > /tmp/child; ${lasting('/tmp/parent')}`, abort.signal);
      running.catch(() => undefined);
      const [parent, child] = [await pidIn('/tmp/parent'), await pidIn('/tmp/child')];
      abort.abort(new Error('enough'));
      await expect(running).rejects.toThrow('enough');
      for (const pid of [parent, child]) {
        await eventually(`the end of process ${pid}`, async () => {
          const { output } = await run(`cat /proc/${pid}/stat 2>/dev/null || echo gone`);
          return /gone|^\d+ \(.*\) Z /.test(output) ? true : undefined;
        });
      }
    });

    it('tells a guest that dies under a command from a command that fails', async () => {
      const running = run(lasting('/tmp/doomed'));
      running.catch(() => undefined);
      await begun('/tmp/doomed');
      await one.crash();
      await expect(running).rejects.toMatchObject({ code: 'guest_unavailable' });
    });

    it('lets commands go on over a snapshot that was called off', async () => {
      const running = run(
        `${lasting('/tmp/kept').replace('exec sleep 600', 'until test -e /tmp/go; do sleep 0.1; done; echo end')}`,
      );
      await begun('/tmp/kept');
      await guest.quiesce(one.address);
      await guest.unquiesce(one.address);
      await run('touch /tmp/go');
      expect(await running).toMatchObject({ exitCode: 0, output: 'end\n' });
    });

    it('cuts what was open before a snapshot once the guest is taken up again, and lets the program live', async () => {
      const abort = new AbortController();
      const running = run(lasting('/tmp/cut'), abort.signal);
      running.catch(() => undefined);
      const pid = await pidIn('/tmp/cut');
      await guest.quiesce(one.address);
      await guest.init(one.address, one.id, configOf());
      await expect(running).rejects.toMatchObject({ code: 'guest_unavailable' });
      abort.abort();
      await run(`kill -9 ${pid}`);
    });

    it('refuses what no Linux can run, and goes on', async () => {
      await expect(run(`echo ${'x'.repeat(200_000)}`)).rejects.toMatchObject({ code: 'guest_failed' });
      await expect(run('echo a\0b')).rejects.toMatchObject({ code: 'guest_failed' });
      expect(await run('')).toMatchObject({ exitCode: 0, output: '' });
      expect(await run('definitely-not-there')).toMatchObject({ exitCode: 127 });
      expect(await run('if')).toMatchObject({ exitCode: 2 });
    });

    it('refuses a name that no host can have', async () => {
      for (const id of ['two words', '', '-x'.repeat(60)]) {
        const attempt = guest.init(one.address, id, configOf());
        if (id === '') await attempt;
        else await expect(attempt).rejects.toMatchObject({ code: 'guest_failed' });
      }
    });

    it('takes up a guest whose disk is full, and serves it', async () => {
      const filled = await run('dd if=/dev/zero of=/fill bs=64k 2>&1; dd if=/dev/zero of=/fill2 bs=1 2>&1; df /');
      expect(filled.output).toMatch(/No space left on device/);
      await guest.quiesce(one.address);
      // As after every resume: a sandbox must come back from a pause however full its disk is.
      await guest.init(one.address, one.id, configOf({ env: { STILL: 'here' } }));
      expect((await run('echo "$STILL"')).output).toBe('here\n');
      expect((await run('echo more > /other')).exitCode).not.toBe(0);
      await run('rm /fill /fill2');
      expect(await run('echo more > /other && cat /other')).toMatchObject({ exitCode: 0, output: 'more\n' });
    });
  });
}
