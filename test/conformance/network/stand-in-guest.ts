import type { NetworkAttachment } from '../../../activities/host/ports.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';

const exec = new ChildProcessExec();

/** How long nothing has to come back until there is no way. */
const SILENCE_MS = 1_000;

/** Tries all targets at once and prints, in their order, what the server said about who came, `refused`, or null for silence. */
const CLIENT = `
const [given, ...targets] = process.argv.slice(1);
const silenceMs = Number(given);
const tcp = (host, port) => new Promise((resolve) => {
  const socket = require('net').connect({ host, port });
  let said = '';
  socket.setTimeout(silenceMs, () => resolve(null));
  socket.on('error', (err) => resolve(err.code === 'ECONNREFUSED' ? 'refused' : null));
  socket.on('data', (data) => (said += data)).on('end', () => resolve(said || null));
});
const udp = (host, port) => new Promise((resolve) => {
  const socket = require('dgram').createSocket('udp4');
  setTimeout(() => resolve(null), silenceMs);
  socket.on('error', (err) => resolve(err.code === 'ECONNREFUSED' ? 'refused' : null));
  socket.on('message', (said) => resolve(String(said)));
  socket.connect(port, host, () => socket.send('hello'));
});
Promise.all(targets.map((target) => {
  const [protocol, host, port] = target.split(' ');
  return (protocol === 'udp' ? udp : tcp)(host, Number(port));
})).then((said) => { console.log(JSON.stringify(said)); process.exit(); });
`;

/** Tells each client its address, on every address there is now. */
const SERVER = `
for (const port of process.argv.slice(1).map(Number)) {
  require('net').createServer((socket) => socket.on('error', () => {}).end(socket.remoteAddress)).listen(port, '0.0.0.0');
  // Bound to each, or answers would leave with another address than was asked.
  for (const { address } of Object.values(require('os').networkInterfaces()).flat().filter((each) => each.family === 'IPv4')) {
    const socket = require('dgram').createSocket('udp4');
    socket.on('message', (_, from) => socket.send(from.address, from.port, from.address)).bind(port, address);
  }
}
`;

/** A network namespace of a test: programs in it connect to others and are connected to. */
export class TestNamespace {
  readonly #servers: AbortController[] = [];
  readonly #ended: Promise<unknown>[] = [];

  /** Undefined is the namespace that the tests run in. */
  constructor(readonly name: string | undefined) {}

  /** The address that the server saw, or `undefined` when there was no connection. */
  async connect(host: string, port: number): Promise<string | undefined> {
    const said = (await this.tryAll([`tcp ${host} ${port}`]))[0];
    return said === 'refused' ? undefined : (said ?? undefined);
  }

  /** Of each `tcp 10.0.0.1 80` what came back: the address that the server saw, `refused`, or null for nothing at all. */
  async tryAll(targets: readonly string[]): Promise<(string | null)[]> {
    const argv = [...this.#enter(), process.execPath, '-e', CLIENT, String(SILENCE_MS), ...targets];
    const said = JSON.parse((await exec.run(argv)).stdout) as (string | null)[];
    return said.map((each) => each?.replace(/^::ffff:/, '') ?? null);
  }

  /** Those of the targets at which somebody answered. */
  async reached(targets: readonly string[]): Promise<string[]> {
    const said = await this.tryAll(targets);
    return targets.filter((_, index) => said[index] !== null && said[index] !== 'refused');
  }

  /** Runs a program until it ends or `stop`; resolves with what it printed when it ended by itself. */
  run(script: string, ...args: string[]): Promise<string> {
    const server = new AbortController();
    this.#servers.push(server);
    const argv = [...this.#enter(), process.execPath, '-e', script, ...args];
    const ended = exec.run(argv, { signal: server.signal, timeoutMs: 300_000 }).then(({ stdout }) => stdout);
    this.#ended.push(ended.catch(() => undefined));
    return ended;
  }

  /** TCP and UDP; resolves when all of them answer. */
  async serve(...ports: number[]): Promise<void> {
    this.run(SERVER, ...ports.map(String)).catch(() => undefined);
    const targets = ports.flatMap((port) => [`tcp 127.0.0.1 ${port}`, `udp 127.0.0.1 ${port}`]);
    for (let attempt = 0; attempt < 100; attempt += 1)
      if ((await this.reached(targets)).length === targets.length) return;
    throw new Error(`the test servers on ports ${ports.join(', ')} of ${this.name ?? 'the host'} do not answer`);
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

/** Where the world outside answers: at its own address, another one behind it, and metadata addresses as clouds have them. */
export const OUTSIDE = {
  host: '203.0.113.1',
  address: '203.0.113.2',
  far: '192.0.2.10',
  metadata: ['169.254.169.254', '100.100.100.200', '168.63.129.16'],
} as const;

/** One hop away from the host. */
export async function outsideWorld(name: string): Promise<TestNamespace> {
  const elsewhere = [OUTSIDE.far, ...OUTSIDE.metadata];
  await exec.run(['ip', '-batch', '-'], {
    input: `
netns add ${name}
link add ${name} type veth peer name eth0 netns ${name}
addr add ${OUTSIDE.host}/30 dev ${name}
link set dev ${name} up
${elsewhere.map((address) => `route add ${address}/32 via ${OUTSIDE.address}`).join('\n')}
`,
  });
  await exec.run(['ip', '-n', name, '-batch', '-'], {
    input: `
link set dev lo up
addr add ${OUTSIDE.address}/30 dev eth0
${elsewhere.map((address) => `addr add ${address}/32 dev lo`).join('\n')}
link set dev eth0 up
route add default via ${OUTSIDE.host}
`,
  });
  return new TestNamespace(name);
}
