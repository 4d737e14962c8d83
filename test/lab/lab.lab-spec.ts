import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LabRig } from './lab-rig.js';
import { Lab } from './lab.js';

/** An emulated boot on a machine that is busy otherwise. */
const BOOT_MS = 900_000;
/** Some commands there. */
const COMMANDS_MS = 300_000;
/** Labs with this port share a network; no other file uses it. */
const SEGMENT = 41_001;

describe('a lab', () => {
  let rig: LabRig;
  let lab: Lab;

  beforeAll(async () => {
    rig = await LabRig.open();
    lab = await rig.start('one', { segment: { port: SEGMENT, address: '10.77.0.1/24' } });
  }, BOOT_MS);
  afterAll(() => rig?.close());

  it(
    'runs programs and tells their output from their errors',
    async () => {
      const seen: string[] = [];
      const result = await lab.run('echo "$WORD"; pwd; echo no >&2; exit 3', {
        cwd: '/tmp',
        env: { WORD: 'yes' },
        onOutput: (bytes, stream) => void seen.push(`${stream}: ${Buffer.from(bytes).toString()}`),
      });
      expect(result).toEqual({ exitCode: 3, stdout: 'yes\n/tmp\n', stderr: 'no\n' });
      expect(seen.join('')).toContain('stderr: no\n');
      await expect(lab.run('echo why >&2; false', { check: true })).rejects.toThrow(/ended with 1: [^]*why/);
    },
    COMMANDS_MS,
  );

  it(
    'ends a program with all that it started when it is told to',
    async () => {
      const stop = new AbortController();
      const run = lab.run('sleep 1000 & echo $!; wait', {
        signal: stop.signal,
        onOutput: () => stop.abort(new Error('enough')),
      });
      await expect(run).rejects.toThrow('enough');
      const { stdout } = await lab.run('pgrep --count --exact sleep', { cwd: '/' });
      expect(stdout.trim()).toBe('0');
    },
    COMMANDS_MS,
  );

  it(
    'has what a production host has',
    async () => {
      const { stdout } = await lab.run('ls /dev/kvm /dev/loop-control /dev/net/tun /dev/mapper/control', {
        check: true,
      });
      expect(stdout.trim().split('\n')).toHaveLength(4);
      await lab.run('dmsetup targets | grep -w snapshot && getent passwd torpor-vm', { check: true });
      const images = JSON.parse((await lab.run('cat /var/cache/torpor/images.json')).stdout) as {
        kernel: { path: string };
      };
      await lab.run(['test', '-s', images.kernel.path], { check: true });
    },
    COMMANDS_MS,
  );

  it(
    'carries files both ways',
    async () => {
      const [there, back] = [join(rig.directory, 'there'), join(rig.directory, 'back')];
      const content = randomBytes(3_000_000);
      await writeFile(there, content);
      await lab.putFile(there, '/tmp/there');
      await lab.getFile('/tmp/there', back);
      expect((await readFile(back)).equals(content)).toBe(true);
      await expect(lab.getFile('/tmp/absent', back)).rejects.toThrow('/tmp/absent');
    },
    COMMANDS_MS,
  );

  it(
    'reaches servers outside',
    async () => {
      const server = createServer((_, answer) => answer.end('from outside')).listen(0, '127.0.0.1');
      try {
        await once(server, 'listening');
        const { port } = server.address() as AddressInfo;
        const { stdout } = await lab.run(['curl', '-sS', `http://${Lab.OUTSIDE}:${port}/`], { check: true });
        expect(stdout).toBe('from outside');
      } finally {
        server.close();
      }
    },
    COMMANDS_MS,
  );

  /** Ends with the lab. */
  const serveInLab = (port: number): Promise<void> =>
    new Promise((listening, reject) => {
      const script = `require('http').createServer((_, answer) => answer.end(require('fs').readFileSync('/root/kept')))
        .listen(${port}, () => console.log('listening'))`;
      lab.run(['node', '-e', script], { onOutput: () => listening() }).catch(reject);
    });

  it(
    'is reached from outside, and has its disk and its ports again after a power cut',
    async () => {
      const port = await lab.forward(8_123);
      const page = async () => (await fetch(`http://127.0.0.1:${port}/`)).text();
      await lab.run('echo kept >/root/kept; sync; echo lost >/run/lost', { check: true });
      await serveInLab(8_123);
      expect(await page()).toBe('kept\n');

      await lab.kill();
      await expect(page()).rejects.toThrow();

      await lab.boot();
      expect(await lab.run('cat /root/kept /run/lost')).toMatchObject({ exitCode: 1, stdout: 'kept\n' });
      expect(await lab.forward(8_123)).toBe(port);
      await serveInLab(8_123);
      expect(await page()).toBe('kept\n');
    },
    BOOT_MS,
  );

  it(
    'runs beside another, on a network that both are on',
    async () => {
      const other = await rig.start('two', { segment: { port: SEGMENT, address: '10.77.0.2/24' }, init: 'systemd' });
      await other.run('ping -c 1 -W 20 10.77.0.1', { check: true });
      await lab.run('ping -c 1 -W 20 10.77.0.2', { check: true });
      const running = await other.run('systemctl is-system-running --wait; systemctl --failed --no-legend');
      expect(running.stdout).toBe('running\n');
      await other.stop();
      expect((await lab.run('hostname')).stdout).toBe('one\n');
    },
    BOOT_MS,
  );
});
