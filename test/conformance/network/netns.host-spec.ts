import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type NetnsOptions, NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import { probeNetns } from '../../../host-worker/drivers/netns/netns-probe.js';
import { ChildProcessExec, type Exec } from '../../../host-worker/exec.js';
import { describeNetworkConformance } from './network.conformance.js';
import {
  type TestNamespace,
  TestNamespace as Namespace,
  outsideWorld,
  scratch,
  standInGuest,
} from './stand-in-guest.js';

const exec = new ChildProcessExec();
const CIDR = '10.98.0.0/24';
/** Exists everywhere; the platform's own user may not have been made yet. */
const USER = 'nobody';
const unique = `t${process.pid}`;

function driver(hostTag: string, slotsDir: string, more: Partial<NetnsOptions> = {}): NetnsNetwork {
  return new NetnsNetwork({ cidr: CIDR, hostTag, vmUser: USER, exec, slotsDir, ...more });
}

/** Namespaces, links of ours and slots; none of them may be another worker's. */
async function leftovers(slotsDir: string, ids: RegExp): Promise<string[]> {
  const namespaces = (await readdir('/run/netns')).filter((name) => ids.test(name));
  const addresses = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
  return [
    ...namespaces,
    ...addresses.filter((address) => address.startsWith('10.98.0.')),
    ...(await readdir(slotsDir)),
  ];
}

describeNetworkConformance('netns', async () => {
  const slots = await scratch();
  const network = driver(`conf_${unique}`, slots.dir);
  await network.ensureHostTable();
  return {
    network,
    restarted: () => driver(`conf_${unique}`, slots.dir),
    leftovers: () => leftovers(slots.dir, /^sbx-(one|two|[a-f]|same|cancelled)$/),
    dispose: async () => {
      for (const id of await network.list()) await network.remove(id);
      await network.removeHostTableIfUnused();
      expect((await exec.run(['nft', 'list', 'tables'])).stdout).not.toContain(`conf_${unique}`);
      await slots.remove();
    },
  };
});

describe('isolation by netns', () => {
  const host = new Namespace(undefined);
  const [idA, idB] = [`${unique}a`, `${unique}b`];
  let slots: Awaited<ReturnType<typeof scratch>>;
  let network: NetnsNetwork;
  let neighbour: NetnsNetwork;
  let outside: TestNamespace;
  let guestA: TestNamespace;
  let guestB: TestNamespace;
  let [addressA, addressB] = ['', ''];

  beforeAll(async () => {
    slots = await scratch();
    // Two host workers on one machine, a guest of each, both with egress: the hardest case.
    network = driver(`isoa_${unique}`, slots.dir);
    neighbour = driver(`isob_${unique}`, slots.dir);
    await network.ensureHostTable();
    await neighbour.ensureHostTable();
    outside = await outsideWorld(`tout${process.pid}`);
    const [a, b] = [await network.ensure(idA, { egress: true }), await neighbour.ensure(idB, { egress: true })];
    [addressA, addressB] = [a.hostAddress, b.hostAddress];
    guestA = await standInGuest(`tga${process.pid}`, a);
    guestB = await standInGuest(`tgb${process.pid}`, b);
    await Promise.all([guestA.serve(8080), guestB.serve(8080), host.serve(18_080), outside.serve(8080)]);
  }, 60_000);

  afterAll(async () => {
    for (const namespace of [guestA, guestB, outside, host]) await namespace.close();
    await network.remove(idA);
    await neighbour.remove(idB);
    await network.removeHostTableIfUnused();
    await neighbour.removeHostTableIfUnused();
    await slots.remove();
  });

  it('lets the host reach every guest', async () => {
    expect(await host.connect(addressA, 8080)).toBeDefined();
    expect(await host.connect(addressB, 8080)).toBeDefined();
  });

  it('keeps guests from the host, at all of its addresses', async () => {
    const mine = Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => address);
    expect(mine).toContain('203.0.113.1');
    for (const address of mine) {
      expect([address, await host.connect(address, 18_080)]).toEqual([address, address]);
      expect([address, await guestA.connect(address, 18_080)]).toEqual([address, undefined]);
    }
  }, 60_000);

  it('keeps guests from their own gateway', async () => {
    const gateway = new Namespace(`sbx-${idA}`);
    await gateway.serve(9090);
    expect(await gateway.connect('169.254.0.22', 9090)).toBe('169.254.0.22');
    for (const address of ['169.254.0.22', addressA]) expect(await guestA.connect(address, 9090)).toBeUndefined();
    await gateway.stop();
  });

  it('keeps guests of the same and of another worker from one another', async () => {
    expect(await guestA.connect(addressB, 8080)).toBeUndefined();
    expect(await guestB.connect(addressA, 8080)).toBeUndefined();
    const third = await network.ensure(`${unique}c`, { egress: true });
    const guestC = await standInGuest(`tgc${process.pid}`, third);
    await guestC.serve(8080);
    expect(await host.connect(third.hostAddress, 8080)).toBeDefined();
    expect(await guestA.connect(third.hostAddress, 8080)).toBeUndefined();
    expect(await guestC.connect(addressA, 8080)).toBeUndefined();
    await guestC.close();
    await network.remove(`${unique}c`);
  });

  it('lets guests with egress out under the address of the host', async () => {
    expect(await guestA.connect('203.0.113.2', 8080)).toBe('203.0.113.1');
  });

  it('keeps guests from metadata addresses', async () => {
    expect(await host.connect('169.254.169.254', 8080)).toBe('203.0.113.1');
    expect(await guestA.connect('169.254.169.254', 8080)).toBeUndefined();
  });

  it('keeps the outside from guests', async () => {
    expect(await outside.connect('203.0.113.1', 18_080)).toBe('203.0.113.2');
    expect(await outside.connect(addressA, 8080)).toBeUndefined();
  });

  it('turns egress off and on again for one guest alone', async () => {
    await network.ensure(idA, { egress: false });
    expect(await guestA.connect('203.0.113.2', 8080)).toBeUndefined();
    expect(await guestB.connect('203.0.113.2', 8080)).toBe('203.0.113.1');
    expect(await host.connect(addressA, 8080)).toBeDefined();
    await network.ensure(idA, { egress: true });
    expect(await guestA.connect('203.0.113.2', 8080)).toBe('203.0.113.1');
  });

  it('restores rules that somebody flushed before the next sandbox starts', async () => {
    await exec.run(['nft', 'flush', 'table', 'inet', `torpor_isoa_${unique}`]);
    expect(await guestA.connect('203.0.113.1', 18_080)).toBeDefined();
    await network.ensure(idA, { egress: true });
    expect(await guestA.connect('203.0.113.1', 18_080)).toBeUndefined();
  });
});

describe('netns beyond the port', () => {
  it('takes down what a dead worker has left half-made, and makes it anew', async () => {
    const slots = await scratch();
    const network = driver(`half_${unique}`, slots.dir);
    await network.ensureHostTable();
    const id = `${unique}h`;
    const made = await network.ensure(id, { egress: true });
    const [slot] = await readdir(slots.dir);
    const path = join(slots.dir, slot ?? '');
    const record = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    for (const lost of ['tap', 'namespace', 'nothing']) {
      await writeFile(path, JSON.stringify({ ...record, complete: false }));
      if (lost === 'tap') await exec.run(['ip', '-n', made.namespace, 'link', 'del', 'dev', made.tap]);
      if (lost === 'namespace') await exec.run(['ip', 'netns', 'del', made.namespace]);
      expect(await network.find(id)).toBeUndefined();
      expect(await network.list()).toEqual([id]);
      expect(await network.ensure(id, { egress: true })).toMatchObject({ namespace: made.namespace });
      expect((await exec.run(['ip', '-n', made.namespace, 'link', 'show', made.tap])).stdout).toContain(made.tap);
    }
    await network.remove(id);
    await network.removeHostTableIfUnused();
    expect(await leftovers(slots.dir, new RegExp(`^sbx-${id}$`))).toEqual([]);
    await slots.remove();
  });

  it('is found by the name that its link bears, and removed, when somebody deleted or damaged its slot', async () => {
    const slots = await scratch();
    const warned: unknown[] = [];
    const network = driver(`lost_${unique}`, slots.dir, { warn: ({ path }) => warned.push(path) });
    await network.ensureHostTable();
    const id = `${unique}l`;
    for (const damage of ['deleted', 'damaged']) {
      const made = await network.ensure(id, { egress: true });
      const [slot] = await readdir(slots.dir);
      const path = join(slots.dir, slot ?? '');
      await (damage === 'deleted' ? rm(path) : writeFile(path, '{"id":'));
      expect(await network.find(id)).toBeUndefined();
      expect(await network.list()).toEqual([id]);
      expect(warned.includes(path)).toBe(damage === 'damaged');
      await driver(`other_${unique}`, slots.dir).remove(id);
      expect(await network.list()).toEqual([id]);
      await network.remove(id);
      expect(await network.list()).toEqual([]);
      expect(await leftovers(slots.dir, new RegExp(`^${made.namespace}$`))).toEqual([]);
    }
    await network.removeHostTableIfUnused();
    await slots.remove();
  });

  it('lets no link out, at its start, that is gone: the next one of that name may be another sandbox', async () => {
    const slots = await scratch();
    const network = driver(`gone_${unique}`, slots.dir);
    await network.ensureHostTable();
    await network.ensure(`${unique}g`, { egress: true });
    const table = ['inet', `torpor_gone_${unique}`];
    const members = async (): Promise<string> => (await exec.run(['nft', 'list', 'set', ...table, 'egress'])).stdout;
    const living = /"(tp\w+)"/.exec(await members())?.[1] ?? '';
    const planted = `${living.slice(0, 9)}zz`;
    await exec.run(['nft', 'add', 'element', ...table, 'egress', `{ "${planted}" }`]);
    expect(await members()).toContain(planted);
    await driver(`gone_${unique}`, slots.dir).ensureHostTable();
    expect(await members()).not.toContain(planted);
    expect(await members()).toContain(living);
    await network.remove(`${unique}g`);
    await network.removeHostTableIfUnused();
    await slots.remove();
  });

  it.each([
    ['ip', /^ip -batch/, 'iproute2'],
    ['nft', /^nft/, 'nftables'],
  ])('names the package of %s when it is missing, and leaves nothing', async (command, line, name) => {
    const slots = await scratch();
    const missing: Exec = {
      run: (argv, options) =>
        line.test(argv.join(' ')) ? new ChildProcessExec('/nowhere').run([command], options) : exec.run(argv, options),
      spawnDetached: (argv, options) => exec.spawnDetached(argv, options),
    };
    const network = new NetnsNetwork({
      cidr: CIDR,
      hostTag: `miss_${unique}`,
      vmUser: USER,
      exec: missing,
      slotsDir: slots.dir,
    });
    const id = `${unique}m`;
    await expect(network.ensure(id, { egress: true })).rejects.toThrow(new RegExp(`apt-get install ${name}`));
    // What could not be undone without the command is found once it is there again.
    const mended = driver(`miss_${unique}`, slots.dir);
    await mended.remove(id);
    expect(await leftovers(slots.dir, new RegExp(`^sbx-${id}$`))).toEqual([]);
    await mended.removeHostTableIfUnused();
    await slots.remove();
  });

  it('leaves rules in place while a sandbox has them', async () => {
    const slots = await scratch();
    const network = driver(`kept_${unique}`, slots.dir);
    await network.ensureHostTable();
    await network.ensure(`${unique}k`, { egress: true });
    await network.removeHostTableIfUnused();
    expect((await exec.run(['nft', 'list', 'tables'])).stdout).toContain(`kept_${unique}`);
    await network.remove(`${unique}k`);
    await network.removeHostTableIfUnused();
    expect((await exec.run(['nft', 'list', 'tables'])).stdout).not.toContain(`kept_${unique}`);
    await slots.remove();
  });

  it('limits what a guest sends when asked to', async () => {
    const slots = await scratch();
    const network = driver(`rate_${unique}`, slots.dir, { txMegabitsPerSecond: 50 });
    const { namespace } = await network.ensure(`${unique}r`, { egress: true });
    expect((await exec.run(['tc', '-n', namespace, 'qdisc', 'show', 'dev', 'eth0'])).stdout).toContain('rate 50Mbit');
    await network.remove(`${unique}r`);
    await network.removeHostTableIfUnused();
    await slots.remove();
  });

  it('is probed by making a network and removing it', async () => {
    expect(await probeNetns(exec, USER)).toMatchObject({ usable: true });
    expect(await probeNetns(exec, 'no-such-user')).toMatchObject({
      usable: false,
      reason: expect.stringContaining('no-such-user'),
    });
    expect((await readdir('/run/netns')).filter((name) => name.startsWith('sbx-probe_'))).toEqual([]);
    expect((await exec.run(['nft', 'list', 'tables'])).stdout).not.toContain('torpor_probe_');
  });
});
