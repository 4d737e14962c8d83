import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { NetworkAttachment } from '../../../activities/host/ports.js';
import type { NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import type { NetworkPolicy } from '../../../workflows/contract/network-policy.js';
import { DyingExec } from '../dying-exec.js';
import { NetnsLab, RUN, exec } from './netns-lab.js';

const id = `crash${RUN}`;
const OPEN: NetworkPolicy = { egress: true };
const NARROW: NetworkPolicy = { egress: false, allow: [{ cidr: '192.0.2.7', ports: '80' }], txMegabitsPerSecond: 7 };
/** No method runs that many commands. */
const FAR_BEYOND = 40;

interface Method {
  poolSize: number;
  /** What was there before, made by a worker that lives. */
  prepare(network: NetnsNetwork): Promise<unknown>;
  call(network: NetnsNetwork): Promise<unknown>;
}

const METHODS: [string, Method][] = [
  ['ensure', { poolSize: 0, prepare: async () => undefined, call: (network) => network.ensure(id, NARROW) }],
  [
    'ensure of one made ahead',
    { poolSize: 1, prepare: filled, call: async (network) => (await filled(network), network.ensure(id, NARROW)) },
  ],
  [
    'ensure of one that exists',
    { poolSize: 0, prepare: (network) => network.ensure(id, OPEN), call: (network) => network.ensure(id, NARROW) },
  ],
  [
    'apply',
    { poolSize: 0, prepare: (network) => network.ensure(id, OPEN), call: (network) => network.apply(id, NARROW) },
  ],
  ['remove', { poolSize: 0, prepare: (network) => network.ensure(id, NARROW), call: (network) => network.remove(id) }],
  ['the filling of the pool', { poolSize: 1, prepare: (network) => network.close(), call: filled }],
  ['the end of the pool', { poolSize: 1, prepare: filled, call: async (network) => network.close() }],
  [
    'the start of a worker that finds networks made ahead',
    { poolSize: 1, prepare: filled, call: async (network) => (await network.ensureHostTable(), network.settled()) },
  ],
];

describe('a worker that dies in the middle', () => {
  let lab: NetnsLab;
  beforeEach(async () => void (lab = await NetnsLab.open('crash', 5)));
  afterEach(async () => lab.close(), 60_000);

  it.each(
    METHODS.flatMap(([name, method]) => (['before', 'after'] as const).map((when) => [when, name, method] as const)),
  )(
    '%s any command of %s leaves nothing that the next one cannot finish or remove',
    async (when, _, { poolSize, prepare, call }) => {
      let deaths = 0;
      for (let n = 1; n < FAR_BEYOND; n += 1) {
        const before = lab.driver({ poolSize });
        await before.ensureHostTable();
        await prepare(before);
        const dying = new DyingExec(exec, n, when);
        const outcome = await Promise.race([dying.died, call(lab.dying({ poolSize, exec: dying }))]);
        if (outcome === 'died') deaths += 1;

        const next = lab.driver({ poolSize });
        await next.ensureHostTable();
        await next.settled();
        const listed = await next.list();
        expect([[], [id]]).toContainEqual(listed);
        if ((await next.find(id)) !== undefined) expect(listed).toEqual([id]);
        await expectWorking(await next.ensure(id, NARROW));
        await next.settled();
        expect(await lab.ahead()).toHaveLength(poolSize);
        await next.remove(id);
        expect([n, await lab.leftovers()]).toEqual([n, []]);
        await next.close();
        await before.close();
        if (outcome !== 'died') break;
      }
      expect(deaths).toBeGreaterThan(0);
      expect(deaths).toBeLessThan(FAR_BEYOND - 2);
    },
    180_000,
  );

  it('any command of remove, and the next one only removes', async () => {
    for (const when of ['before', 'after'] as const) {
      for (let n = 1; n < FAR_BEYOND; n += 1) {
        await lab.driver().ensure(id, OPEN);
        const dying = new DyingExec(exec, n, when);
        const outcome = await Promise.race([dying.died, lab.dying({ exec: dying }).remove(id)]);
        await lab.driver().remove(id);
        expect([when, n, await lab.leftovers()]).toEqual([when, n, []]);
        if (outcome !== 'died') break;
      }
    }
  }, 60_000);
});

async function filled(network: NetnsNetwork): Promise<void> {
  await network.ensureHostTable();
  await network.settled();
}

/** Everything that the method makes is there, with the policy that was asked for last. */
async function expectWorking({ namespace, tap, hostAddress }: NetworkAttachment): Promise<void> {
  const inside = ['nsenter', `--net=/run/netns/${namespace}`];
  const addresses = (await exec.run(['ip', '-n', namespace, '-brief', 'address'])).stdout;
  expect(addresses).toMatch(new RegExp(`^${tap} .*169\\.254\\.0\\.22/30`, 'm'));
  expect(addresses).toMatch(new RegExp(`^eth0.* UP .*${hostAddress}/31`, 'm'));
  const rules = (await exec.run([...inside, 'nft', 'list', 'table', 'ip', 'torpor'])).stdout;
  expect(rules).toContain('192.0.2.7 . tcp . 80');
  expect(rules.match(/outward goto|goto outward/g)).toHaveLength(1);
  expect((await exec.run([...inside, 'cat', '/proc/sys/net/ipv4/ip_forward'])).stdout.trim()).toBe('1');
  expect((await exec.run([...inside, 'tc', 'qdisc', 'show', 'dev', 'eth0'])).stdout).toContain('rate 7Mbit');
}
