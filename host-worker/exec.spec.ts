import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ChildProcessExec, CommandError } from './exec.js';

const exec = new ChildProcessExec();
let dir = '';
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'exec-'))));
afterAll(async () => rm(dir, { recursive: true, force: true }));

async function failureOf(promise: Promise<unknown>): Promise<CommandError> {
  const err = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(err instanceof CommandError)) throw new Error(`not a CommandError: ${String(err)}`);
  return err;
}

describe('run', () => {
  it('gives both streams and feeds the input', async () => {
    expect(await exec.run(['cat'], { input: 'täxt\n' })).toEqual({ stdout: 'täxt\n', stderr: '' });
  });

  it('passes arguments as they are, without a shell', async () => {
    expect((await exec.run(['printf', '%s|', '$HOME', '`id`', 'a b'])).stdout).toBe('$HOME|`id`|a b|');
  });

  it('runs in English and without the credentials of this process', async () => {
    process.env['EXEC_SPEC_SECRET'] = 'x';
    const { stdout } = await exec.run(['env'], { env: { OWN: '1' } });
    expect(stdout).toContain('LC_ALL=C\n');
    expect(stdout).toContain('OWN=1\n');
    expect(stdout).not.toContain('EXEC_SPEC_SECRET');
  });

  it('says command, exit code and last line of what was printed', async () => {
    const err = await failureOf(exec.run(['ls', '--', '/no such']));
    expect(err).toMatchObject({ argv: ['ls', '--', '/no such'], exitCode: 2, signal: null, timedOut: false });
    expect(err.message).toBe(
      "`ls -- '/no such'` failed with exit code 2: ls: cannot access '/no such': No such file or directory",
    );
  });

  it('names the package of a missing command', async () => {
    const elsewhere = new ChildProcessExec('/nowhere');
    const err = await failureOf(elsewhere.run(['qemu-img', 'info']));
    expect(err.exitCode).toBe(127);
    expect(err.message).toContain('apt-get install qemu-utils');
    expect((await failureOf(exec.run(['no-such-command-here']))).message).toContain('not installed');
  });

  it('kills at the deadline, also what ignores SIGTERM', async () => {
    const begun = Date.now();
    const polite = await failureOf(exec.run(['sleep', '60'], { timeoutMs: 50 }));
    expect(polite).toMatchObject({ timedOut: true, signal: 'SIGTERM' });
    expect(polite.message).toContain('killed at its deadline');
    const stubborn = await failureOf(
      exec.run(['sh', '-c', 'trap "" TERM; while :; do sleep 0.1; done'], { timeoutMs: 100 }),
    );
    expect(stubborn).toMatchObject({ timedOut: true, signal: 'SIGKILL' });
    expect(Date.now() - begun).toBeLessThan(20_000);
  });

  it('rejects with the reason of the signal, before and while it runs', async () => {
    const reason = new Error('stop it');
    await expect(exec.run(['true'], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const running = exec.run(['sleep', '60'], { signal: controller.signal });
    controller.abort(reason);
    await expect(running).rejects.toBe(reason);
  });

  it('keeps the end of a long output', async () => {
    const { stdout } = await exec.run(['sh', '-c', 'head -c 20000000 /dev/zero | tr "\\0" x; echo end']);
    expect(stdout.length).toBeLessThan(18_000_000);
    expect(stdout).toMatch(/^\[\d+ bytes left out\]\n/);
    expect(stdout.endsWith('xend\n')).toBe(true);
  });
});

describe('spawnDetached', () => {
  it('starts a process in its own session with inherited descriptors and a log', async () => {
    const input = join(dir, 'input');
    const log = join(dir, 'log');
    const done = join(dir, 'done');
    await exec.run(['mkfifo', done]);
    await writeFile(input, 'through descriptor 3\n');
    const handle = await open(input);
    const script = 'cat <&3; cut -d" " -f6 /proc/self/stat; echo $$; echo problem >&2; echo >"$1"';
    const { pid } = await exec.spawnDetached(['sh', '-c', script, 'sh', done], { logFile: log, fds: [handle.fd] });
    await handle.close();
    await readFile(done); // opens when the process is at its end
    const [text, session, ownPid, problem] = (await readFile(log, 'utf8')).split('\n');
    expect([text, Number(session), Number(ownPid), problem]).toEqual(['through descriptor 3', pid, pid, 'problem']);
  });

  it('rejects when there is no such command', async () => {
    const err = await failureOf(exec.spawnDetached(['no-such-command-here'], { logFile: join(dir, 'none') }));
    expect(err.exitCode).toBe(127);
  });
});
