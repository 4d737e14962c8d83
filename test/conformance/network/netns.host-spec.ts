import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { probeNetns } from '../../../host-worker/drivers/netns/netns-probe.js';
import type { NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import { isThere, NetnsLab, RUN, USER, exec } from './netns-lab.js';
import { describeNetworkConformance } from './network.conformance.js';
import { OUTSIDE, TestNamespace, outsideWorld, standInGuest } from './stand-in-guest.js';

for (const [name, poolSize, subnet] of [
  ['netns', 0, 1],
  ['netns with networks made ahead', 4, 2],
] as const) {
  describeNetworkConformance(name, async () => {
    const lab = await NetnsLab.open(`conf${poolSize}`, subnet);
    const network = lab.driver({ poolSize });
    await network.ensureHostTable();
    await network.settled();
    return {
      network,
      restarted: () => lab.driver(),
      leftovers: () => lab.leftovers(),
      suffix: RUN,
      dispose: async () => {
        expect((await lab.ahead()).length).toBe(poolSize);
        await lab.close();
        expect((await exec.run(['nft', 'list', 'tables'])).stdout).not.toContain(lab.table);
      },
    };
  });
}

describe('isolation by netns', () => {
  const host = new TestNamespace(undefined);
  const [idA, idB, idC] = ['a', 'b', 'c'].map((name) => `${name}${RUN}`) as [string, string, string];
  let [lab, other]: NetnsLab[] = [];
  let [network, neighbour]: NetnsNetwork[] = [];
  let [outside, guestA, guestB]: TestNamespace[] = [];
  let [addressA, addressB] = ['', ''];

  const it2 = (name: string, body: (parts: Parts) => Promise<void>) =>
    it(name, () => body(partsOf({ lab, other, network, neighbour, outside, guestA, guestB })), 60_000);

  beforeAll(async () => {
    // Two host workers on one machine that share its addresses, a guest of each, both with egress: the hardest case.
    lab = await NetnsLab.open('isoa', 3);
    other = await NetnsLab.open('isob', 3, lab.slotsDir);
    [network, neighbour] = [lab.driver({ poolSize: 1 }), other.driver()];
    await network.ensureHostTable();
    await neighbour.ensureHostTable();
    await network.settled();
    outside = await outsideWorld(`to${RUN}`);
    const [a, b] = [await network.ensure(idA, { egress: true }), await neighbour.ensure(idB, { egress: true })];
    [addressA, addressB] = [a.hostAddress, b.hostAddress];
    guestA = await standInGuest(`ga${RUN}`, a);
    guestB = await standInGuest(`gb${RUN}`, b);
    await Promise.all([guestA.serve(8080), guestB.serve(8080), host.serve(18_080), outside.serve(8080)]);
  }, 120_000);

  afterAll(async () => {
    for (const namespace of [guestA, guestB, outside, host]) await namespace?.close();
    for (const each of [other, lab]) await each?.close();
  }, 60_000);

  it2('lets the host reach every guest', async () => {
    const targets = [`tcp ${addressA} 8080`, `tcp ${addressB} 8080`];
    expect(await host.reached(targets)).toEqual(targets);
  });

  it2('keeps guests from the host, at all of its addresses', async ({ guestA }) => {
    const mine = Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => `tcp ${address} 18080`);
    expect(mine).toContain(`tcp ${OUTSIDE.host} 18080`);
    expect(await host.reached(mine)).toEqual(mine);
    expect(await guestA.reached(mine)).toEqual([]);
  });

  it2('keeps guests from their own gateway', async ({ guestA }) => {
    const gateway = new TestNamespace(`sbx-${idA}`);
    await gateway.serve(9090);
    const targets = ['tcp 169.254.0.22 9090', `tcp ${addressA} 9090`, 'udp 169.254.0.22 9090'];
    expect(await gateway.reached(targets)).toEqual(targets);
    expect(await guestA.reached(targets)).toEqual([]);
    await gateway.stop();
  });

  it2('keeps guests of the same and of another worker from one another', async ({ network, guestA, guestB }) => {
    const third = await network.ensure(idC, { egress: true });
    const guestC = await standInGuest(`gc${RUN}`, third);
    await guestC.serve(8080);
    expect(await host.connect(third.hostAddress, 8080)).toBeDefined();
    const at = (address: string): string[] => [`tcp ${address} 8080`, `udp ${address} 8080`];
    expect(await guestA.reached([...at(addressB), ...at(third.hostAddress)])).toEqual([]);
    expect(await guestB.reached([...at(addressA), ...at(third.hostAddress)])).toEqual([]);
    expect(await guestC.reached([...at(addressA), ...at(addressB)])).toEqual([]);
    await guestC.close();
    await network.remove(idC);
  });

  it2('lets guests with egress out under the address of the host', async ({ guestA }) => {
    expect(await guestA.connect(OUTSIDE.address, 8080)).toBe(OUTSIDE.host);
  });

  it2('keeps guests from metadata addresses, also when the policy allows them', async ({ network, guestA }) => {
    const targets = OUTSIDE.metadata.flatMap((address) => [`tcp ${address} 8080`, `udp ${address} 8080`]);
    expect(await host.reached(targets)).toEqual(targets);
    expect(await guestA.reached(targets)).toEqual([]);
    const allow = [...OUTSIDE.metadata, OUTSIDE.host, addressB].map((cidr) => ({ cidr }));
    await network.apply(idA, { egress: true, dns: true, allow });
    const more = [`tcp ${OUTSIDE.host} 18080`, `tcp ${addressB} 8080`];
    expect(await guestA.reached([...targets, ...more])).toEqual([]);
    await network.apply(idA, { egress: true });
  });

  it2('keeps the outside from guests', async ({ outside }) => {
    const targets = [`tcp ${OUTSIDE.host} 18080`, `tcp ${addressA} 8080`, `udp ${addressA} 8080`];
    expect(await outside.tryAll(targets)).toEqual([OUTSIDE.address, null, null]);
  });

  it2('turns egress off and on again for one guest alone', async ({ network, guestA, guestB }) => {
    await network.ensure(idA, { egress: false });
    expect(await guestA.connect(OUTSIDE.address, 8080)).toBeUndefined();
    expect(await guestB.connect(OUTSIDE.address, 8080)).toBe(OUTSIDE.host);
    expect(await host.connect(addressA, 8080)).toBeDefined();
    await network.ensure(idA, { egress: true });
    expect(await guestA.connect(OUTSIDE.address, 8080)).toBe(OUTSIDE.host);
  });

  it2('restores rules that somebody flushed, of the host and of the namespace', async ({ lab, network, guestA }) => {
    const targets = [`tcp ${OUTSIDE.host} 18080`, `tcp ${OUTSIDE.far} 8080`];
    await exec.run(['nft', 'flush', 'table', 'inet', lab.table]);
    expect(await guestA.reached(targets)).toEqual(targets);
    await exec.run(['nsenter', `--net=/run/netns/sbx-${idA}`, 'nft', 'delete', 'table', 'ip', 'torpor']);
    await network.ensure(idA, { egress: true, deny: [{ cidr: OUTSIDE.far }] });
    expect(await guestA.reached([...targets, `tcp ${OUTSIDE.address} 8080`])).toEqual([`tcp ${OUTSIDE.address} 8080`]);
    expect(await host.connect(addressA, 8080)).toBeDefined();
  });
});

interface Parts {
  lab: NetnsLab;
  other: NetnsLab;
  network: NetnsNetwork;
  neighbour: NetnsNetwork;
  outside: TestNamespace;
  guestA: TestNamespace;
  guestB: TestNamespace;
}

function partsOf(parts: { [K in keyof Parts]: Parts[K] | undefined }): Parts {
  for (const [name, part] of Object.entries(parts)) if (part === undefined) throw new Error(`there is no ${name}`);
  return parts as Parts;
}

describe('the probe of netns', () => {
  it('makes a network and removes it', async () => {
    expect(await probeNetns(exec, USER)).toMatchObject({ usable: true });
    const reason = expect.stringContaining('no-such-user');
    expect(await probeNetns(exec, 'no-such-user')).toMatchObject({ usable: false, reason });
    expect((await exec.run(['nft', 'list', 'tables'])).stdout).not.toContain('torpor_probe_');
    expect(await isThere('/run/netns/sbx-probe')).toBe(false);
  });
});
