import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import type { Exec } from '../../../host-worker/exec.js';
import { ROOT } from '../../support/root.js';
import { NetnsLab, RUN, USER, exec, isThere } from './netns-lab.js';
import { TestNamespace, standInGuest } from './stand-in-guest.js';

const id = `pool${RUN}`;

/** Notes which programs were run. */
class NotingExec implements Exec {
  readonly lines: string[] = [];
  run: Exec['run'] = (argv, options) => {
    this.lines.push(argv.join(' '));
    return exec.run(argv, options);
  };
  spawnDetached: Exec['spawnDetached'] = (argv, options) => exec.spawnDetached(argv, options);
}

/** Runs nothing for a while. */
class StallingExec implements Exec {
  #stalled: Promise<void> = Promise.resolve();

  /** Returns what ends it. */
  stall(): () => void {
    let goOn = (): void => undefined;
    this.#stalled = new Promise((resolve) => (goOn = resolve));
    return () => goOn();
  }

  run: Exec['run'] = async (argv, options) => {
    await this.#stalled;
    return exec.run(argv, options);
  };
  spawnDetached: Exec['spawnDetached'] = (argv, options) => exec.spawnDetached(argv, options);
}

const guestSideOf = (hostSide: string): string => hostSide.replace(/\d+$/, (last) => String(Number(last) + 1));

describe('networks made ahead', () => {
  let lab: NetnsLab;
  beforeEach(async () => void (lab = await NetnsLab.open('pool', 6)));
  afterEach(async () => lab.close(), 60_000);

  const opened = async (poolSize: number, more: { exec?: Exec; vmUser?: string } = {}): Promise<NetnsNetwork> => {
    const network = lab.driver({ poolSize, ...more });
    await network.ensureHostTable();
    await network.settled();
    return network;
  };

  it('are taken without making anything, replaced, and as good as others', async () => {
    const stalling = new StallingExec();
    const network = await opened(2, { exec: stalling });
    const ahead = await lab.ahead();
    expect(ahead).toHaveLength(2);
    expect(await network.list()).toEqual([]);
    expect(await lab.members()).toEqual([]);
    const goOn = stalling.stall();
    const made = await network.ensure(id, { egress: true });
    expect(ahead.map(guestSideOf)).toContain(made.hostAddress);
    goOn();
    await network.settled();
    expect(await lab.ahead()).toHaveLength(2);
    expect(await network.list()).toEqual([id]);
    expect(await lab.members()).toHaveLength(1);

    const host = new TestNamespace(undefined);
    const guest = await standInGuest(`pl${RUN}`, made);
    await guest.serve(8080);
    expect(await host.connect(made.hostAddress, 8080)).toBeDefined();
    await guest.close();
    await network.remove(id);
    expect(await lab.leftovers()).toEqual([]);
  }, 60_000);

  it('get the policy of who takes them before they are handed over', async () => {
    const network = await opened(1);
    const { namespace } = await network.ensure(id, { egress: false, dns: true, txMegabitsPerSecond: 5 });
    const rules = await outward(namespace);
    expect(rules).toMatch(/dport 53 accept/);
    expect(rules).toMatch(/goto refuse\s*\}/);
    const qdiscs = ['nsenter', `--net=/run/netns/${namespace}`, 'tc', 'qdisc', 'show', 'dev', 'eth0'];
    expect((await exec.run(qdiscs)).stdout).toContain('rate 5Mbit');
  });

  it('become of the kind that is asked for, which is then taken without making anything either', async () => {
    const stalling = new StallingExec();
    const network = await opened(2, { exec: stalling });
    await network.ensure(id, { egress: false });
    expect(await lab.members()).toEqual([]);
    await network.settled();
    const goOn = stalling.stall();
    await network.ensure(`${id}b`, { egress: true });
    const { namespace } = await network.ensure(`${id}c`, { egress: false });
    goOn();
    await network.settled();
    expect(await lab.members()).toHaveLength(1);
    expect(await outward(namespace)).toMatch(/goto refuse\s*\}/);
    for (const each of await network.list()) await network.remove(each);
    expect(await lab.leftovers()).toEqual([]);
  }, 60_000);

  it('let out who may go out, though they were made for others', async () => {
    const network = await opened(1);
    await network.ensure(id, { egress: false });
    await network.settled();
    // So that whoever is let out now is not this one.
    await network.remove(id);
    const { namespace } = await network.ensure(`${id}b`, { egress: true });
    expect(await lab.members()).toHaveLength(1);
    expect(await outward(namespace)).toMatch(/accept\s*\}/);
  });

  it('serve twenty at once, each its own, whether there was one or not', async () => {
    const network = await opened(5);
    const ids = Array.from({ length: 20 }, (_, index) => `p${index}x${RUN}`);
    const made = await Promise.all(ids.map((each) => network.ensure(each, { egress: true })));
    expect(new Set(made.map(({ hostAddress }) => hostAddress)).size).toBe(20);
    for (const { namespace } of made) {
      const { stdout } = await exec.run(['ip', '-n', namespace, '-brief', 'address']);
      expect(stdout).toMatch(/^eth0.*\/31/m);
    }
    await network.settled();
    expect(await lab.ahead()).toHaveLength(5);
    await Promise.all(ids.map((each) => network.remove(each)));
    expect(await lab.leftovers()).toEqual([]);
  }, 120_000);

  it('are taken over by the next worker, which makes no new ones', async () => {
    await opened(2);
    const before = await lab.ahead();
    const noting = new NotingExec();
    const next = await opened(2, { exec: noting });
    expect((await lab.ahead()).toSorted()).toEqual(before.toSorted());
    expect(noting.lines.filter((line) => line.startsWith('ip -batch'))).toEqual([]);
    const made = await next.ensure(id, { egress: true });
    expect(before.map(guestSideOf)).toContain(made.hostAddress);
  });

  it.each<[string, (lab: NetnsLab, address: string) => Promise<unknown>]>([
    ['of which the namespace is gone', (lab, address) => exec.run(['ip', 'netns', 'del', lab.nameAt(address)])],
    ['of which the link is gone', (lab, address) => exec.run(['ip', 'link', 'del', lab.nameAt(address)])],
    ['of which the tap is gone', (lab, address) => exec.run(['ip', '-n', lab.nameAt(address), 'link', 'del', 'tap0'])],
    ['that was made in another way', (lab, address) => changed(lab, address, { recipe: 'former' })],
    ['that was half made', (lab, address) => changed(lab, address, { complete: false })],
  ])(
    'are replaced by the next worker where one finds one %s',
    async (_, damage) => {
      const first = await opened(2);
      const [damaged = '', good = ''] = await lab.ahead();
      await damage(lab, damaged);
      await opened(2);
      expect(await lab.ahead()).toHaveLength(2);
      expect(await lab.ahead()).toContain(good);
      const { stdout } = await exec.run(['ip', '-n', lab.nameAt(good), '-brief', 'address']);
      expect(stdout).toMatch(/^tap0.*169\.254\.0\.22/m);
      for (const address of await lab.ahead())
        expect((await exec.run(['ip', '-n', lab.nameAt(address), '-brief', 'link'])).stdout).toMatch(/^tap0/m);
      await first.close();
    },
    60_000,
  );

  it('restore the rules of the host that somebody flushed, once one is taken', async () => {
    const network = await opened(1);
    await exec.run(['nft', 'delete', 'table', 'inet', lab.table]);
    await network.ensure(id, { egress: true });
    await network.settled();
    expect((await exec.run(['nft', 'list', 'table', 'inet', lab.table])).stdout).toContain('masquerade');
    await network.apply(id, { egress: true });
    expect(await lab.members()).toHaveLength(1);
  });

  it('have their rules back when the next worker finds them without', async () => {
    await opened(1);
    const [address = ''] = await lab.ahead();
    const inside = ['nsenter', `--net=/run/netns/${lab.nameAt(address)}`, 'nft'];
    await exec.run([...inside, 'flush', 'ruleset']);
    await opened(1);
    expect((await exec.run([...inside, 'list', 'table', 'ip', 'torpor'])).stdout).toContain('policy drop');
  });

  it('are passed over when somebody deleted them since', async () => {
    const network = await opened(2);
    const [first = '', second = ''] = await lab.ahead();
    await exec.run(['ip', 'netns', 'del', lab.nameAt(first)]);
    await rm(join(lab.slotsDir, second));
    const { namespace } = await network.ensure(id, { egress: true });
    expect((await exec.run(['ip', '-n', namespace, '-brief', 'address'])).stdout).toMatch(/^tap0/m);
    await network.remove(id);
    await network.settled();
    expect(await lab.ahead()).toHaveLength(2);
    expect(await lab.leftovers()).toEqual([]);
  }, 60_000);

  it('are all removed when the worker ends, when there shall be none, and with the table', async () => {
    const network = await opened(2);
    await network.ensure(id, { egress: true });
    await network.close();
    expect(await lab.ahead()).toEqual([]);
    expect(await network.list()).toEqual([id]);
    await network.ensure(`${id}b`, { egress: true });
    await network.settled();
    expect(await lab.ahead()).toEqual([]);
    await opened(2);
    await opened(0);
    expect(await lab.ahead()).toEqual([]);
    await opened(2);
    const last = lab.driver();
    for (const each of await last.list()) await last.remove(each);
    await last.removeHostTableIfUnused();
    expect(await lab.leftovers()).toEqual([]);
    expect((await exec.run(['nft', 'list', 'tables'])).stdout).not.toContain(lab.table);
  }, 60_000);

  it('are not needed: what hinders them is told, and networks are made when they are asked for', async () => {
    const broken: Exec = {
      run: (argv, options) =>
        // A failure of the pool alone: the alias of what is made ahead.
        / alias ahead /.test(options?.input ?? '') ? exec.run(['false'], options) : exec.run(argv, options),
      spawnDetached: (argv, options) => exec.spawnDetached(argv, options),
    };
    const network = await opened(2, { exec: broken });
    expect(lab.warnings).toEqual(['no network can be made ahead']);
    await network.ensure(id, { egress: true });
    await network.settled();
    expect(lab.warnings).toHaveLength(2);
    await network.remove(id);
    expect(await lab.ahead()).toEqual([]);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('are finished or removed by the next worker when one is killed while it makes them', async () => {
    const script = `
      const { NetnsNetwork } = await import('./host-worker/drivers/netns/netns-network.driver.ts');
      const { ChildProcessExec } = await import('./host-worker/exec.ts');
      const network = new NetnsNetwork({ ...JSON.parse(process.argv[1]), exec: new ChildProcessExec() });
      await network.ensureHostTable();
      console.log('filling');
      await network.settled();
    `;
    const options = { cidr: '10.98.6.0/24', hostTag: lab.tag, vmUser: USER, slotsDir: lab.slotsDir, poolSize: 30 };
    for (const entries of [1, 3]) {
      const argv = [
        '--import',
        './test/tools/typescript.mjs',
        '--input-type=module',
        '-e',
        script,
        JSON.stringify(options),
      ];
      const worker = spawn(process.execPath, argv, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = once(worker, 'exit');
      await once(worker.stdout, 'data');
      while ((await lab.ahead()).length < entries && worker.exitCode === null) await exec.run(['true']);
      worker.kill('SIGKILL');
      expect(await ended).toEqual([null, 'SIGKILL']);
      const next = await opened(2);
      expect(await lab.ahead()).toHaveLength(2);
      // A record that was being written is swept by a later worker, as it may still be another one's.
      const left = async () => (await lab.leftovers()).filter((what) => !/^\.[0-9a-f]+$/.test(what));
      expect(await left()).toEqual([]);
      await next.close();
      expect(await left()).toEqual([]);
      expect(await isThere(`/sys/class/net/${lab.nameAt('10.98.6.0')}`)).toBe(false);
    }
  }, 120_000);
});

/** What decides about packets of the guest in there. */
async function outward(namespace: string): Promise<string> {
  const inside = ['nsenter', `--net=/run/netns/${namespace}`];
  return (await exec.run([...inside, 'nft', 'list', 'chain', 'ip', 'torpor', 'outward'])).stdout;
}

async function changed(lab: NetnsLab, address: string, fields: object): Promise<void> {
  const path = join(lab.slotsDir, address);
  const record = JSON.parse(await readFile(path, 'utf8')) as object;
  await writeFile(path, JSON.stringify({ ...record, ...fields }));
}
