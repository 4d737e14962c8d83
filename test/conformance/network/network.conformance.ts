import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Network } from '../../../activities/host/ports.js';

export interface NetworkHarness {
  network: Network;
  /** A second instance of the driver, as after a restart of the worker. */
  restarted(): Network;
  /** Names of everything on the machine that belongs to these networks. */
  leftovers(): Promise<string[]>;
  /** In the ids, so that runs at the same time do not meet. */
  suffix: string;
  dispose(): Promise<void>;
}

const NOTHING = { sentBytes: 0, sentPackets: 0, receivedBytes: 0, receivedPackets: 0, deniedPackets: 0 };

/** Every driver of `Network` must pass this. */
export function describeNetworkConformance(name: string, make: () => Promise<NetworkHarness>): void {
  describe(`Network: ${name}`, () => {
    let harness: NetworkHarness;
    let network: Network;
    const id = (short: string): string => `${short}${harness.suffix}`;

    beforeAll(async () => {
      harness = await make();
      network = harness.network;
    }, 60_000);
    afterAll(async () => harness.dispose(), 60_000);

    it('makes a network once and finds it, also after a restart', async () => {
      const one = id('one');
      expect(await network.find(one)).toBeUndefined();
      const made = await network.ensure(one, { egress: false });
      expect(await network.ensure(one, { egress: true })).toEqual(made);
      expect(await harness.restarted().ensure(one, { egress: false })).toEqual(made);
      expect(await harness.restarted().find(one)).toEqual(made);
      expect(await harness.restarted().list()).toEqual([one]);
      await network.remove(one);
    });

    it('removes everything, accepts absence and can make it again', async () => {
      const two = id('two');
      await network.ensure(two, { egress: true });
      expect(await harness.leftovers()).not.toEqual([]);
      await harness.restarted().remove(two);
      await network.remove(two);
      expect(await network.find(two)).toBeUndefined();
      expect(await network.list()).toEqual([]);
      expect(await harness.leftovers()).toEqual([]);
      await network.ensure(two, { egress: true });
      expect(await network.list()).toEqual([two]);
      await network.remove(two);
    });

    it('gives each of twenty its own address, and all of them the same inside', async () => {
      const ids = Array.from({ length: 20 }, (_, index) => id(`many${index}x`));
      const made = await Promise.all(ids.map((each, index) => network.ensure(each, { egress: index % 2 === 0 })));
      expect(new Set(made.map((one) => one.hostAddress)).size).toBe(ids.length);
      expect(new Set(made.map((one) => one.namespace)).size).toBe(ids.length);
      expect(new Set(made.map((one) => `${one.tap} ${one.mac}`)).size).toBe(1);
      expect((await network.list()).toSorted()).toEqual(ids.toSorted());
      for (const [index, each] of ids.entries()) expect(await network.find(each)).toEqual(made[index]);
      await Promise.all(ids.map((each) => network.remove(each)));
      expect(await harness.leftovers()).toEqual([]);
    }, 120_000);

    it('answers parallel calls for one sandbox with one network', async () => {
      const same = id('same');
      const made = await Promise.all([1, 2, 3].map(() => network.ensure(same, { egress: true })));
      expect(new Set(made.map((one) => one.hostAddress)).size).toBe(1);
      await Promise.all([network.apply(same, { egress: false }), network.counters(same), network.find(same)]);
      await Promise.all([1, 2, 3].map(() => network.remove(same)));
      expect(await harness.leftovers()).toEqual([]);
    });

    it('ends in a state that is one of those asked for when calls for one sandbox contradict', async () => {
      const torn = id('torn');
      await Promise.all([
        network.ensure(torn, { egress: true }),
        network.remove(torn),
        network.ensure(torn, { egress: false }),
      ]);
      expect(await network.find(torn)).toBeDefined();
      await Promise.all([network.remove(torn), network.remove(torn)]);
      expect(await harness.leftovers()).toEqual([]);
    });

    it('changes the policy of what is there, again and again, and of nothing else', async () => {
      const policed = id('policed');
      const allow = [{ cidr: '192.0.2.0/24', ports: '80-90' }];
      await expect(network.apply(policed, { egress: true })).rejects.toMatchObject({ code: 'not_found' });
      const made = await network.ensure(policed, { egress: true });
      const policies = [
        { egress: false, allow, dns: true, txMegabitsPerSecond: 8 },
        { egress: true, deny: allow },
      ];
      for (const policy of [...policies, ...policies]) await harness.restarted().apply(policed, policy);
      expect(await network.find(policed)).toEqual(made);
      await network.remove(policed);
      await expect(network.apply(policed, { egress: true })).rejects.toMatchObject({ code: 'not_found' });
      expect(await harness.leftovers()).toEqual([]);
    });

    it('counts from zero for each sandbox, and not for one that has no network', async () => {
      const counted = id('counted');
      expect(await network.counters(counted)).toBeUndefined();
      await network.ensure(counted, { egress: true });
      expect(await harness.restarted().counters(counted)).toEqual(NOTHING);
      await network.remove(counted);
      expect(await network.counters(counted)).toBeUndefined();
    });

    it('leaves nothing when it is cancelled, at whatever moment', async () => {
      const cancelled = id('cancelled');
      for (const afterMs of [0, 3, 6, 10, 15, 20, 30, 60, 100]) {
        const signal = AbortSignal.timeout(afterMs);
        const outcome = await network.ensure(cancelled, { egress: true, txMegabitsPerSecond: 9 }, signal).then(
          () => 'made',
          () => 'cancelled',
        );
        if (outcome === 'made') await network.remove(cancelled);
        expect(await network.list()).toEqual([]);
        expect(await harness.leftovers()).toEqual([]);
      }
    }, 60_000);

    it.each([
      [{ egress: true, deny: [{ cidr: '10.0.0.0/40' }] }, 'deny[0].cidr'],
      [{ egress: true, allow: [{ cidr: '10.0.0.0/8' }, { cidr: '::1' }] }, 'allow[1].cidr'],
      [{ egress: true, allow: [{ cidr: '10.0.0.0/8', ports: '9-8' }] }, 'allow[0].ports'],
      [{ egress: true, txMegabitsPerSecond: 0 }, 'txMegabitsPerSecond'],
      [{ egress: true, txMegabitsPerSecond: Number.NaN }, 'txMegabitsPerSecond'],
    ])('refuses the policy %j by the name of its field, and does nothing', async (policy, field) => {
      const bad = id('bad');
      const refusal = { code: 'invalid_request', message: expect.stringContaining(field) };
      await expect(network.ensure(bad, policy)).rejects.toMatchObject(refusal);
      expect(await harness.leftovers()).toEqual([]);
      await network.ensure(bad, { egress: true });
      await expect(network.apply(bad, policy)).rejects.toMatchObject(refusal);
      await network.remove(bad);
    });

    it('refuses ids that are none', async () => {
      for (const bad of ['../x', '', 'a b', 'a'.repeat(65)]) {
        const calls: (() => Promise<unknown>)[] = [
          () => network.ensure(bad, { egress: true }),
          () => network.apply(bad, { egress: true }),
          () => network.counters(bad),
          () => network.find(bad),
          () => network.remove(bad),
        ];
        for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'invalid_request' });
      }
      expect(await harness.leftovers()).toEqual([]);
    });
  });
}
