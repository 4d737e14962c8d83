import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import type { NetworkPolicy } from '../../../workflows/contract/network-policy.js';
import { NetnsLab, RUN, exec } from './netns-lab.js';
import { OUTSIDE, TestNamespace, outsideWorld, standInGuest } from './stand-in-guest.js';

const id = `policy${RUN}`;
const { address, far } = OUTSIDE;
/** Everything that the policies below tell apart. */
const TARGETS = [address, far].flatMap((host) =>
  ['tcp', 'udp'].flatMap((protocol) => [53, 80, 8080].map((port) => `${protocol} ${host} ${port}`)),
);
const matching = (pattern: RegExp): string[] => TARGETS.filter((target) => pattern.test(target));

/** Says something ten times a second until the connection ends, and prints how it ended. */
const TALKER = `
const socket = require('net').connect({ host: process.argv[1], port: Number(process.argv[2]) });
const timer = setInterval(() => socket.write('on'), 100);
socket.on('error', (err) => console.log(err.code)).on('close', () => clearInterval(timer)).resume();
`;

/** Accepts whoever talks and never says anything. */
const LISTENER = `
require('net').createServer((socket) => socket.on('error', () => {}).resume()).listen(Number(process.argv[1]), '0.0.0.0');
`;

/** Sends to whoever once said something, for ever. */
const SENDER = `
const socket = require('dgram').createSocket('udp4');
socket.once('message', (_, from) => setInterval(() => socket.send('more', from.port, from.address), 20)).bind(Number(process.argv[1]), process.argv[2]);
`;

/** Says something until it is heard, and only listens from then on. */
const SUBSCRIBER = `
const socket = require('dgram').createSocket('udp4');
socket.connect(Number(process.argv[2]), process.argv[1], () => {
  const speaking = setInterval(() => socket.send('me'), 50);
  socket.once('message', () => clearInterval(speaking));
});
// Nobody may listen there yet.
socket.on('error', () => undefined);
`;

describe('the policy of a netns network', () => {
  let lab: NetnsLab;
  let network: NetnsNetwork;
  let outside: TestNamespace;
  let guest: TestNamespace;
  let hostAddress = '';
  const host = new TestNamespace(undefined);
  const counters = async () => {
    const read = await network.counters(id);
    if (read === undefined) throw new Error('there are no counters');
    return read;
  };

  beforeAll(async () => {
    lab = await NetnsLab.open('policy', 4);
    network = lab.driver();
    await network.ensureHostTable();
    outside = await outsideWorld(`po${RUN}`);
    const made = await network.ensure(id, { egress: true });
    ({ hostAddress } = made);
    guest = await standInGuest(`pg${RUN}`, made);
    await Promise.all([outside.serve(53, 80, 8080), guest.serve(8080)]);
  }, 120_000);

  afterAll(async () => {
    for (const namespace of [guest, outside, host]) await namespace.close();
    await lab.close();
  }, 60_000);

  it.each<[string, NetworkPolicy, RegExp]>([
    ['everything', { egress: true }, /./],
    ['nothing', { egress: false }, /never/],
    ['all but DNS', { egress: true, dns: false }, / (80|8080)$/],
    ['DNS alone', { egress: false, dns: true }, / 53$/],
    ['what is allowed, alone', { egress: false, allow: [{ cidr: address }] }, new RegExp(` ${address} `)],
    [
      'what is allowed, DNS apart',
      { egress: false, dns: false, allow: [{ cidr: address }] },
      new RegExp(` ${address} (?!53)`),
    ],
    [
      'one port of one protocol',
      { egress: false, allow: [{ cidr: far, ports: '80', protocol: 'udp' }] },
      new RegExp(`udp ${far} 80$`),
    ],
    ['one port of both', { egress: false, allow: [{ cidr: '0.0.0.0/0', ports: '80' }] }, / 80$/],
    [
      'a range of ports',
      { egress: false, allow: [{ cidr: '0.0.0.0/0', ports: '50-100', protocol: 'tcp' }] },
      /tcp .* (53|80)$/,
    ],
    ['all ports of a protocol', { egress: false, allow: [{ cidr: far, protocol: 'tcp' }] }, new RegExp(`tcp ${far} `)],
    ['all but what is denied', { egress: true, deny: [{ cidr: '192.0.2.0/24' }] }, new RegExp(` ${address} `)],
    [
      'all but a denied port',
      { egress: true, deny: [{ cidr: far, ports: '80', protocol: 'tcp' }] },
      new RegExp(`^(?!tcp ${far} 80$)`),
    ],
    [
      'what is allowed rather than denied',
      { egress: true, allow: [{ cidr: far }], deny: [{ cidr: '0.0.0.0/0' }] },
      new RegExp(` ${far} `),
    ],
    ['DNS though everything is denied', { egress: true, dns: true, deny: [{ cidr: '0.0.0.0/0' }] }, / 53$/],
    [
      'destinations that overlap',
      {
        egress: false,
        allow: [
          { cidr: '192.0.2.0/24', ports: '70-80', protocol: 'tcp' },
          { cidr: '192.0.2.8/29', ports: '80-8080', protocol: 'tcp' },
          { cidr: '192.0.2.10', ports: '53-80', protocol: 'tcp' },
        ],
      },
      new RegExp(`tcp ${far} `),
    ],
  ])(
    'lets out %s',
    async (_, policy, pattern) => {
      const wanted = matching(pattern);
      const before = await counters();
      await network.apply(id, policy);
      expect(await guest.reached(TARGETS)).toEqual(wanted);
      expect(await host.connect(hostAddress, 8080)).toBeDefined();
      const after = await counters();
      // Of each target one packet at least was sent, and at least one of each that was not reached was held back.
      expect(after.sentPackets - before.sentPackets).toBeGreaterThanOrEqual(TARGETS.length);
      expect(after.sentBytes).toBeGreaterThan(before.sentBytes);
      expect(after.receivedBytes).toBeGreaterThan(before.receivedBytes);
      expect(after.deniedPackets - before.deniedPackets >= TARGETS.length - wanted.length).toBe(true);
      if (wanted.length === TARGETS.length) expect(after.deniedPackets).toBe(before.deniedPackets);
    },
    60_000,
  );

  it('tells programs at once that they may not, instead of letting them wait', async () => {
    await network.apply(id, { egress: false });
    expect(await guest.tryAll([`tcp ${address} 80`, `udp ${address} 80`])).toEqual(['refused', null]);
  });

  it('ends a connection that a new policy forbids, and no other', async () => {
    await network.apply(id, { egress: true });
    outside.run(LISTENER, '7000').catch(() => undefined);
    for (let tries = 0; tries < 50 && (await isListening(outside, 7000)) === false; tries += 1);
    const talking = guest.run(TALKER, address, '7000');
    const other = guest.run(TALKER, far, '7000');
    let ended = 'neither';
    void talking.then(
      () => (ended = 'the forbidden one'),
      () => undefined,
    );
    void other.then(
      () => (ended = 'the other one'),
      () => undefined,
    );
    await bothConnected(guest);
    await network.apply(id, { egress: true, deny: [{ cidr: address, ports: '7000' }] });
    expect((await talking).trim()).toMatch(/ECONNRESET|EPIPE/);
    expect(ended).toBe('the forbidden one');
    expect(await connections(guest)).toHaveLength(1);
    await network.apply(id, { egress: false });
    expect((await other).trim()).toMatch(/ECONNRESET|EPIPE/);
  }, 60_000);

  it('ends what comes in for a guest that listens only', async () => {
    await network.apply(id, { egress: true });
    outside.run(SENDER, '7001', far).catch(() => undefined);
    guest.run(SUBSCRIBER, far, '7001').catch(() => undefined);
    const increase = async (): Promise<number> => {
      const before = (await counters()).receivedPackets;
      // What arrives in the meantime is at most what the sender sends: nothing, or fifty a second.
      await guest.tryAll(['udp 127.0.0.1 9']);
      await new Promise((resolve) => setTimeout(resolve, 300));
      return (await counters()).receivedPackets - before;
    };
    for (let tries = 0; tries < 20 && (await increase()) === 0; tries += 1);
    expect(await increase()).toBeGreaterThan(0);
    await network.apply(id, { egress: true, deny: [{ cidr: far, ports: '7001', protocol: 'udp' }] });
    expect(await increase()).toBe(0);
    await network.apply(id, { egress: true });
    expect(await increase()).toBeGreaterThan(0);
  }, 60_000);

  it('counts on when the policy changes, and after a restart', async () => {
    const before = await counters();
    expect(before.deniedPackets).toBeGreaterThan(0);
    await lab.driver().ensure(id, { egress: false, allow: [{ cidr: far, ports: '1-9' }] });
    const after = await lab.driver().counters(id);
    expect(after?.sentPackets).toBeGreaterThanOrEqual(before.sentPackets);
    expect(after?.receivedBytes).toBeGreaterThanOrEqual(before.receivedBytes);
    expect(after?.deniedPackets).toBeGreaterThanOrEqual(before.deniedPackets);
  });

  it('limits what a guest sends, changes the limit and takes it away', async () => {
    const shaping = async (): Promise<string> =>
      (await exec.run(['tc', '-n', `sbx-${id}`, 'qdisc', 'show', 'dev', 'eth0'])).stdout;
    await network.apply(id, { egress: true, txMegabitsPerSecond: 50 });
    expect(await shaping()).toContain('rate 50Mbit');
    await network.apply(id, { egress: true, txMegabitsPerSecond: 0.5 });
    expect(await shaping()).toContain('rate 500Kbit');
    await network.apply(id, { egress: true });
    expect(await shaping()).not.toContain('rate');
    const limited = lab.driver({ txMegabitsPerSecond: 20 });
    await limited.apply(id, { egress: true });
    expect(await shaping()).toContain('rate 20Mbit');
    await limited.apply(id, { egress: true, txMegabitsPerSecond: 30 });
    expect(await shaping()).toContain('rate 30Mbit');
  });

  it('adds no rule to the tables of the host, whatever the number of sandboxes', async () => {
    const shape = async (): Promise<Record<string, number>> => {
      const { stdout } = await exec.run(['nft', '-j', 'list', 'table', 'inet', lab.table]);
      const { nftables } = JSON.parse(stdout) as { nftables: object[] };
      const kinds = nftables.flatMap((entry) => Object.keys(entry));
      return Object.fromEntries(
        ['chain', 'rule', 'set', 'map'].map((kind) => [kind, kinds.filter((each) => each === kind).length]),
      );
    };
    await network.apply(id, { egress: true });
    const tables = (await exec.run(['nft', 'list', 'tables'])).stdout.split('\n').filter((line) => line.includes(RUN));
    const one = await shape();
    const ids = Array.from({ length: 19 }, (_, index) => `crowd${index}${RUN}`);
    const policies: NetworkPolicy[] = [{ egress: true }, { egress: false, allow: [{ cidr: far, ports: '1-99' }] }];
    await Promise.all(ids.map((each, index) => network.ensure(each, policies[index % 2] ?? { egress: true })));
    expect(await shape()).toEqual(one);
    expect(one).toEqual({ chain: 3, rule: 10, set: 1, map: 0 });
    expect(await lab.members()).toHaveLength(20);
    expect((await exec.run(['nft', 'list', 'tables'])).stdout.split('\n').filter((line) => line.includes(RUN))).toEqual(
      tables,
    );
    await Promise.all(ids.map((each) => network.remove(each)));
    expect(await lab.members()).toHaveLength(1);
  }, 120_000);
});

async function isListening(namespace: TestNamespace, port: number): Promise<boolean> {
  const { stdout } = await exec.run(['ss', '-N', namespace.name ?? '', '-Htln', `sport = :${port}`]);
  return stdout.trim() !== '';
}

async function connections(namespace: TestNamespace): Promise<string[]> {
  const { stdout } = await exec.run([
    'ss',
    '-N',
    namespace.name ?? '',
    '-Htn',
    'state',
    'established',
    'dport = :7000',
  ]);
  return stdout
    .trim()
    .split('\n')
    .filter((line) => line !== '');
}

async function bothConnected(namespace: TestNamespace): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) if ((await connections(namespace)).length === 2) return;
  throw new Error('the talkers do not connect');
}
