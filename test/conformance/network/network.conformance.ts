import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Network } from '../../../activities/host/ports.js';

export interface NetworkHarness {
  network: Network;
  /** A second instance of the driver, as after a restart of the worker. */
  restarted(): Network;
  /** Names of everything on the machine that belongs to these networks. */
  leftovers(): Promise<string[]>;
  dispose(): Promise<void>;
}

/** Every driver of `Network` must pass this. */
export function describeNetworkConformance(name: string, make: () => Promise<NetworkHarness>): void {
  describe(`Network: ${name}`, () => {
    let harness: NetworkHarness;
    let network: Network;

    beforeAll(async () => {
      harness = await make();
      network = harness.network;
    });
    afterAll(async () => harness.dispose());

    it('makes a network once and finds it, also after a restart', async () => {
      expect(await network.find('one')).toBeUndefined();
      const made = await network.ensure('one', { egress: false });
      expect(await network.ensure('one', { egress: true })).toEqual(made);
      expect(await harness.restarted().ensure('one', { egress: false })).toEqual(made);
      expect(await harness.restarted().find('one')).toEqual(made);
      expect(await harness.restarted().list()).toEqual(['one']);
      await network.remove('one');
    });

    it('removes everything, accepts absence and can make it again', async () => {
      await network.ensure('two', { egress: true });
      expect(await harness.leftovers()).not.toEqual([]);
      await harness.restarted().remove('two');
      await network.remove('two');
      expect(await network.find('two')).toBeUndefined();
      expect(await network.list()).toEqual([]);
      expect(await harness.leftovers()).toEqual([]);
      await network.ensure('two', { egress: true });
      expect(await network.list()).toEqual(['two']);
      await network.remove('two');
    });

    it('gives each sandbox its own address and all of them the same inside', async () => {
      const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
      const made = await Promise.all(ids.map((id) => network.ensure(id, { egress: id < 'd' })));
      expect(new Set(made.map((one) => one.hostAddress)).size).toBe(ids.length);
      expect(new Set(made.map((one) => one.namespace)).size).toBe(ids.length);
      expect(new Set(made.map((one) => `${one.tap} ${one.mac}`)).size).toBe(1);
      expect((await network.list()).toSorted()).toEqual(ids);
      await Promise.all(ids.map((id) => network.remove(id)));
      expect(await harness.leftovers()).toEqual([]);
    });

    it('answers parallel calls for one sandbox with one network', async () => {
      const made = await Promise.all([1, 2, 3].map(() => network.ensure('same', { egress: true })));
      expect(new Set(made.map((one) => one.hostAddress)).size).toBe(1);
      await Promise.all([1, 2, 3].map(() => network.remove('same')));
      expect(await harness.leftovers()).toEqual([]);
    });

    it('leaves nothing when it is cancelled, at whatever moment', async () => {
      for (const afterMs of [0, 3, 6, 10, 15, 20, 30]) {
        const signal = AbortSignal.timeout(afterMs);
        const outcome = await network.ensure('cancelled', { egress: true }, signal).then(
          () => 'made',
          () => 'cancelled',
        );
        if (outcome === 'made') await network.remove('cancelled');
        expect(await network.list()).toEqual([]);
        expect(await harness.leftovers()).toEqual([]);
      }
    });

    it('refuses ids that are none', async () => {
      await expect(network.ensure('../x', { egress: true })).rejects.toMatchObject({ code: 'invalid_request' });
    });
  });
}
