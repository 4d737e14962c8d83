import { networkInterfaces } from 'node:os';
import { beforeAll, expect, it } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { outsideWorld, TestNamespace } from '../conformance/network/stand-in-guest.js';
import { addressOf, reached, serveHttp } from '../support/e2e-guest-network.js';
import { describeOnPlatform } from '../support/e2e-suite.js';

const PORT = 8080;
const HOST_PORT = 18_181;
const OUTSIDE = `203.0.113.2:${PORT}`;

/** An emulated guest tries four ports of each. Links of sandboxes, of which a machine in use has hundreds, are alike. */
const MOST_ADDRESSES = 12;
const isOfSandbox = (link: string): boolean => link.startsWith('tp');

/** Both may use the network: the case in which it is the rules that keep them apart. */
describeOnPlatform('two sandboxes', ({ api, tier, atEnd }) => {
  const host = new TestNamespace(undefined);
  let outside: TestNamespace;
  let one: SandboxDto;
  let other: SandboxDto;

  beforeAll(async () => {
    atEnd(() => host.close());
    outside = await outsideWorld(`te2e${process.pid}`);
    atEnd(() => outside.close());
    [one, other] = await Promise.all([api.create({ env: { NAME: 'one' } }), api.create({ env: { NAME: 'other' } })]);
    await Promise.all([serveHttp(api, other.id, PORT, 'other'), host.serve(HOST_PORT), outside.serve(PORT)]);
  }, 120_000);

  it('come from one snapshot and are two machines', async () => {
    const identity =
      'hostname; echo "$(cat /run/torpor/.TORPOR_SANDBOX_ID)"; head -c 16 /dev/urandom | base64; cat /etc/machine-id; echo "$NAME"';
    const [mine, its] = await Promise.all([one, other].map(async ({ id }) => (await api.sh(id, identity)).split('\n')));
    const machineId = expect.stringMatching(/^[0-9a-f]{32}$/);
    expect(mine).toEqual([expect.any(String), one.id, expect.any(String), machineId, 'one']);
    expect(its).toEqual([expect.any(String), other.id, expect.any(String), machineId, 'other']);
    for (const field of [0, 2, 3]) expect(mine?.[field]).not.toBe(its?.[field]);
    expect(one.access_token).not.toBe(other.access_token);
  });

  it('do not see the files, memory or processes of one another', async () => {
    await api.sh(
      one.id,
      'echo mine > /home/user/disk; echo mine > /dev/shm/memory; setsid sleep 3210 > /dev/null 2>&1 &',
    );
    expect(await api.sh(one.id, 'cat /home/user/disk /dev/shm/memory; pgrep -xc sleep')).toBe('mine\nmine\n1');
    const look = 'ls /home/user /dev/shm; pgrep -xc sleep';
    const { exit_code, stdout } = await api.exec(other.id, { argv: ['sh', '-c', look] });
    expect([exit_code, stdout]).toEqual([1, '/dev/shm:\n\n/home/user:\n0\n']);
  });

  it('both reach the world outside', async () => {
    expect(await reached(api, one.id, [OUTSIDE])).toEqual([OUTSIDE]);
    expect(await reached(api, other.id, [OUTSIDE])).toEqual([OUTSIDE]);
  });

  it('do not reach one another, which their host can', async () => {
    const [address, own] = [await addressOf(other.id), await addressOf(one.id)];
    expect(await (await fetch(`http://${address}:${PORT}/`)).text()).toBe('other GET / HTTP/1.1');
    const targets = [`${address}:${PORT}`, `${address}:49983`];
    expect(await reached(api, one.id, [...targets, OUTSIDE])).toEqual([OUTSIDE]);
    expect(await reached(api, other.id, [`${own}:49983`, OUTSIDE])).toEqual([OUTSIDE]);
  });

  it('reach their host at none of its addresses, not even its platform', async () => {
    const addresses = Object.entries(networkInterfaces())
      .toSorted(([one], [two]) => Number(isOfSandbox(one)) - Number(isOfSandbox(two)))
      .flatMap(([, list]) => list ?? [])
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => address)
      .slice(0, MOST_ADDRESSES);
    expect(addresses).toContain('203.0.113.1');
    for (const address of addresses)
      expect([address, await host.connect(address, HOST_PORT)]).toEqual([address, address]);
    const ports = [tier.apiUrl, tier.databaseUrl, `tcp://${tier.temporalAddress}`].map((url) => new URL(url).port);
    const targets = [...addresses, '169.254.0.22'].flatMap((address) =>
      [String(HOST_PORT), ...ports].map((port) => `${address}:${port}`),
    );
    expect(await reached(api, one.id, [...targets, OUTSIDE])).toEqual([OUTSIDE]);
  });

  it('do not reach the metadata address of a cloud, which their host can', async () => {
    expect(await host.connect('169.254.169.254', PORT)).toBe('203.0.113.1');
    expect(await reached(api, one.id, [`169.254.169.254:${PORT}`, OUTSIDE])).toEqual([OUTSIDE]);
  });

  it('live and end independently', async () => {
    await Promise.all([api.pause(one.id), api.destroy(other.id)]);
    expect(await api.resume(one.id)).toMatchObject({ state: 'running' });
    expect(await api.sh(one.id, 'cat /dev/shm/memory')).toBe('mine');
    expect(await api.sandbox(other.id)).toMatchObject({ state: 'stopped' });
  });
});
