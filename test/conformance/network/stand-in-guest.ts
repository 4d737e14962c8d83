import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NetworkAttachment } from '../../../activities/host/ports.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';

const exec = new ChildProcessExec();

/** Connects and prints what the server says about who connected; fails after a second without an answer. */
const CLIENT = `
const [host, port] = process.argv.slice(1);
const socket = require('net').connect({ host, port: Number(port) });
socket.setTimeout(1000, () => socket.destroy(new Error('timeout')));
socket.on('error', (err) => { console.error(err.code ?? err.message); process.exitCode = 1; });
socket.pipe(process.stdout);
`;

/** Tells each client its address, on every address there is. */
const SERVER = `
require('net').createServer((socket) => socket.on('error', () => {}).end(socket.remoteAddress))
  .listen(Number(process.argv[1]), '0.0.0.0');
`;

/** A network namespace of a test: programs in it connect to others and are connected to. */
export class TestNamespace {
  readonly #servers: AbortController[] = [];
  readonly #ended: Promise<unknown>[] = [];

  /** Undefined is the namespace that the tests run in. */
  constructor(readonly name: string | undefined) {}

  /** The address that the server saw, or `undefined` when there was no connection. */
  async connect(host: string, port: number): Promise<string | undefined> {
    try {
      const { stdout } = await exec.run([...this.#enter(), process.execPath, '-e', CLIENT, host, String(port)]);
      return stdout === '' ? undefined : stdout.replace(/^::ffff:/, '');
    } catch {
      return undefined;
    }
  }

  /** Runs a program that serves until `stop`. */
  run(script: string, ...args: string[]): void {
    const server = new AbortController();
    this.#servers.push(server);
    const argv = [...this.#enter(), process.execPath, '-e', script, ...args];
    this.#ended.push(exec.run(argv, { signal: server.signal, timeoutMs: 120_000 }).catch(() => undefined));
  }

  /** Resolves when the server accepts connections. */
  async serve(port: number): Promise<void> {
    this.run(SERVER, String(port));
    for (let attempt = 0; attempt < 100; attempt += 1)
      if ((await this.connect('127.0.0.1', port)) !== undefined) return;
    throw new Error(`the test server on port ${port} of ${this.name ?? 'the host'} does not answer`);
  }

  /** Ends the servers. */
  async stop(): Promise<void> {
    for (const server of this.#servers) server.abort(new Error('the test is over'));
    await Promise.all(this.#ended);
  }

  async close(): Promise<void> {
    await this.stop();
    if (this.name !== undefined) await exec.run(['ip', 'netns', 'del', this.name]);
  }

  #enter(): string[] {
    return this.name === undefined ? [] : ['nsenter', `--net=/run/netns/${this.name}`];
  }
}

/**
 * In the place of a VM: a namespace behind a device of the tap's name and addresses,
 * which the rules cannot tell from a real guest.
 */
export async function standInGuest(name: string, attachment: NetworkAttachment): Promise<TestNamespace> {
  const { namespace, tap, mac } = attachment;
  const inside = await exec.run(['ip', '-n', namespace, '-j', 'link', 'show', 'dev', tap]);
  const [{ address }] = JSON.parse(inside.stdout) as [{ address: string }];
  await exec.run(['ip', 'netns', 'add', name]);
  await exec.run(['ip', '-n', namespace, '-batch', '-'], {
    input: `
link del dev ${tap}
link add ${tap} address ${address} type veth peer name eth0 address ${mac} netns ${name}
addr add 169.254.0.22/30 dev ${tap}
link set dev ${tap} up
`,
  });
  await exec.run(['ip', '-n', name, '-batch', '-'], {
    input:
      'link set dev lo up\naddr add 169.254.0.21/30 dev eth0\nlink set dev eth0 up\nroute add default via 169.254.0.22\n',
  });
  return new TestNamespace(name);
}

/** The world outside, one hop away from the host; it owns a metadata address as clouds have it. */
export async function outsideWorld(name: string): Promise<TestNamespace> {
  await exec.run(['ip', '-batch', '-'], {
    input: `
netns add ${name}
link add ${name} type veth peer name eth0 netns ${name}
addr add 203.0.113.1/30 dev ${name}
link set dev ${name} up
route add 169.254.169.254/32 via 203.0.113.2
`,
  });
  await exec.run(['ip', '-n', name, '-batch', '-'], {
    input: `
link set dev lo up
addr add 203.0.113.2/30 dev eth0
addr add 169.254.169.254/32 dev lo
link set dev eth0 up
route add default via 203.0.113.1
`,
  });
  return new TestNamespace(name);
}

/** A directory of its own, removed by the returned function. */
export async function scratch(): Promise<{ dir: string; remove: () => Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'network-'));
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) };
}
