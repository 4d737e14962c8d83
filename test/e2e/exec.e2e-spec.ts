import { beforeAll, describe, expect, it } from '@jest/globals';
import { describeOnPlatform } from '../support/e2e-suite.js';

const MIB = 1024 * 1024;

describeOnPlatform('exec', ({ api }) => {
  let id: string;

  beforeAll(async () => {
    ({ id } = await api.create({ env: { FROM_SANDBOX: 'sandbox', BOTH: 'sandbox' } }));
  }, 120_000);

  it('answers with both streams and the exit code, whatever that is', async () => {
    const result = await api.exec(id, { command: 'echo out; echo err >&2; exit 7' });
    expect(result).toMatchObject({
      ...{ exit_code: 7, stdout: 'out\n', stderr: 'err\n', encoding: 'utf-8' },
      ...{ truncated: false, timed_out: false },
    });
    expect(result.duration_ms).toBeGreaterThan(0);
  });

  it('tells of a program that a signal ended', async () => {
    expect(await api.exec(id, { command: 'kill -SEGV $$' })).toMatchObject({ exit_code: -1, timed_out: false });
  });

  it('runs a program without a shell, its arguments as they are', async () => {
    const argv = ['printf', '<%s>', 'a b', '$HOME', "it's", '*', ''];
    expect(await api.exec(id, { argv })).toMatchObject({ exit_code: 0, stdout: "<a b><$HOME><it's><*><>" });
  });

  it('passes what is no text through unchanged, as base64 both ways', async () => {
    const bytes = Buffer.from(Array.from({ length: 512 }, (_, index) => index % 256));
    const result = await api.exec(id, { command: 'cat; echo plain >&2', stdin_base64: bytes.toString('base64') });
    expect(result).toMatchObject({ exit_code: 0, encoding: 'base64' });
    expect(Buffer.from(result.stdout, 'base64').equals(bytes)).toBe(true);
    expect(Buffer.from(result.stderr, 'base64').toString()).toBe('plain\n');
  });

  it('keeps text that was cut between bytes of a character', async () => {
    const text = 'ä€😀'.repeat(20_000);
    expect(await api.exec(id, { argv: ['cat'], stdin: text })).toMatchObject({
      stdout: text,
      encoding: 'utf-8',
      truncated: false,
    });
  });

  it('gives a program an end of its input, and none when none is sent', async () => {
    expect(await api.exec(id, { argv: ['wc', '-c'], stdin: 'x'.repeat(3 * MIB) })).toMatchObject({
      stdout: `${3 * MIB}\n`,
    });
    expect(await api.exec(id, { argv: ['wc', '-c'] })).toMatchObject({ stdout: '0\n' });
  });

  it('keeps as much output as was asked for and says that there was more', async () => {
    const result = await api.exec(id, { command: 'yes | head -c 300000', max_output_bytes: 1000 });
    expect(result).toMatchObject({ exit_code: 0, truncated: true, stdout: 'y\n'.repeat(500) });
    const all = await api.exec(id, { command: 'yes | head -c 300000', max_output_bytes: 300_000 });
    expect(all).toMatchObject({ truncated: false, stdout: 'y\n'.repeat(150_000) });
  });

  describe('where and as whom', () => {
    it('by default as user, at home, with the environment of the sandbox', async () => {
      const command = 'id -un; pwd; echo "$FROM_SANDBOX $BOTH $HOME"';
      expect(await api.sh(id, command)).toBe('user\n/home/user\nsandbox sandbox /home/user');
    });

    it('otherwise as it is told', async () => {
      const command = 'id -un; pwd; echo "$FROM_SANDBOX $BOTH $HOME"';
      const request = { user: 'root', cwd: '/usr/bin', env: { BOTH: 'request' } };
      expect(await api.sh(id, command, request)).toBe('root\n/usr/bin\nsandbox request /root');
    });

    it('refuses a user and a directory that are not there, naming them', async () => {
      const where = `/v1/sandboxes/${id}/exec`;
      const nobody = await api.refused('POST', where, { body: { command: 'true', user: 'ghost' } });
      expect(nobody).toMatchObject({ status: 400, code: 'invalid_request' });
      expect(nobody.message).toContain('ghost');
      const nowhere = await api.refused('POST', where, { body: { command: 'true', cwd: '/no/such/place' } });
      expect(nowhere).toMatchObject({ status: 400, code: 'invalid_request' });
      expect(nowhere.message).toContain('/no/such/place');
    });

    it('tells of a program that is not there', async () => {
      const refusal = await api.refused('POST', `/v1/sandboxes/${id}/exec`, { body: { argv: ['no-such-program'] } });
      expect(refusal).toMatchObject({ status: 400, code: 'invalid_request' });
      expect(refusal.message).toContain('no-such-program');
    });
  });

  it('kills a program at its deadline, with everything that it started', async () => {
    const command = 'sleep 4321 & sleep 4321 & echo started; wait';
    const result = await api.exec(id, { command, timeout_seconds: 1 });
    expect(result).toMatchObject({ exit_code: -1, timed_out: true, stdout: 'started\n' });
    expect(result.duration_ms).toBeGreaterThanOrEqual(1_000);
    expect(await api.exec(id, { argv: ['pgrep', '-x', 'sleep'] })).toMatchObject({ exit_code: 1, stdout: '' });
  });

  it('lets what was put into the background go on', async () => {
    await api.sh(id, 'setsid sleep 5432 < /dev/null > /dev/null 2>&1 &');
    expect(await api.sh(id, 'pgrep -xc sleep')).toBe('1');
  });

  it('runs many at a time, each with its own output', async () => {
    const numbers = Array.from({ length: 12 }, (_, index) => String(index));
    const outputs = await Promise.all(numbers.map((number) => api.sh(id, `echo ${number}; sleep 0.2; echo ${number}`)));
    expect(outputs).toEqual(numbers.map((number) => `${number}\n${number}`));
  });

  it('is refused by a sandbox that does not run, with its state', async () => {
    await api.destroy(id);
    const refusal = await api.refused('POST', `/v1/sandboxes/${id}/exec`, { body: { command: 'true' } });
    expect(refusal).toMatchObject({ status: 409, code: 'state_conflict', details: { state: 'stopped' } });
  });
});
