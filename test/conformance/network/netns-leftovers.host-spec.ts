import { readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ChildProcessExec, type Exec } from '../../../host-worker/exec.js';
import { NetnsLab, RUN, exec, isThere } from './netns-lab.js';
import { TestNamespace, standInGuest } from './stand-in-guest.js';

const id = `left${RUN}`;

describe('what netns finds on a machine', () => {
  let lab: NetnsLab;
  beforeEach(async () => void (lab = await NetnsLab.open('left', 7)));
  afterEach(async () => lab.close(), 60_000);

  const slotOf = async (): Promise<string> => join(lab.slotsDir, (await readdir(lab.slotsDir))[0] ?? '');

  it('is taken down and made anew where a dead worker left it half-made', async () => {
    const network = lab.driver();
    await network.ensureHostTable();
    const made = await network.ensure(id, { egress: true });
    const path = await slotOf();
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
    expect(await lab.leftovers()).toEqual([]);
  }, 60_000);

  it.each(['deleted', 'deleted with its folder', 'damaged'])(
    'is found by the names it bears when its slot was %s, and only its own worker removes it',
    async (damage) => {
      const network = lab.driver();
      await network.ensureHostTable();
      await network.ensure(id, { egress: true });
      const path = await slotOf();
      if (damage === 'damaged') await writeFile(path, '{"id":');
      else await rm(damage === 'deleted' ? path : lab.slotsDir, { recursive: true });
      expect(await network.find(id)).toBeUndefined();
      expect(await network.list()).toEqual([id]);
      expect(lab.warnings.includes('an address record cannot be read; delete it if no sandbox uses that address')).toBe(
        damage === 'damaged',
      );
      const other = await NetnsLab.open('elsewhere', 7, lab.slotsDir);
      await other.driver().remove(id);
      expect(await network.list()).toEqual([id]);
      if (damage === 'deleted with its folder') expect(await network.ensure(id, { egress: true })).toBeDefined();
      await network.remove(id);
      expect(await network.list()).toEqual([]);
      expect(await lab.leftovers()).toEqual([]);
    },
    60_000,
  );

  it('lets no link out, at its start, that is gone: the next one of that name may be another sandbox', async () => {
    const network = lab.driver();
    await network.ensureHostTable();
    await network.ensure(id, { egress: true });
    const [living = ''] = await lab.members();
    const planted = `${lab.prefix}zz`;
    await exec.run(['nft', 'add', 'element', 'inet', lab.table, 'egress', `{ "${planted}" }`]);
    expect((await lab.members()).toSorted()).toEqual([living, planted].toSorted());
    await lab.driver().ensureHostTable();
    expect(await lab.members()).toEqual([living]);
  });

  it('is left alone where it is a namespace of somebody else, and named', async () => {
    const network = lab.driver({ poolSize: 1 });
    await network.ensureHostTable();
    await network.settled();
    const name = `sbx-${id}`;
    await exec.run(['ip', 'netns', 'add', name]);
    await exec.run(['ip', '-n', name, 'link', 'add', 'theirs', 'type', 'veth', 'peer', 'name', 'theirs2']);
    const refusal = {
      message: expect.stringMatching(new RegExp(`${name} is there that this host did not make.*ip netns del ${name}`)),
    };
    await expect(network.ensure(id, { egress: true })).rejects.toMatchObject(refusal);
    await network.remove(id);
    expect(await network.list()).toEqual([]);
    expect((await exec.run(['ip', '-n', name, '-brief', 'link'])).stdout).toContain('theirs');
    expect((await lab.ahead()).length).toBe(1);
    await exec.run(['ip', 'netns', 'del', name]);
    await network.ensure(id, { egress: true });
    await network.remove(id);
    expect(await lab.leftovers()).toEqual([]);
  }, 60_000);

  it('is left alone where it is a link of the name that a slot would give', async () => {
    // Two addresses only: one of the two slots has its link's name taken.
    const slots = lab.slotsDir;
    const small = { cidr: '10.98.7.0/30', slotsDir: slots };
    const foreign = `${lab.prefix}0`;
    await exec.run(['ip', 'link', 'add', foreign, 'type', 'veth', 'peer', 'name', `px${process.pid}`]);
    const network = lab.driver(small);
    await network.ensureHostTable();
    expect(await network.ensure(id, { egress: true })).toMatchObject({ hostAddress: '10.98.7.3' });
    await expect(network.ensure(`${id}b`, { egress: true })).rejects.toThrow(
      'all 2 address pairs of this host are in use',
    );
    await network.remove(id);
    expect(await isThere(`/sys/class/net/${foreign}`)).toBe(true);
    await exec.run(['ip', 'link', 'del', foreign]);
    expect(await lab.leftovers()).toEqual([]);
  }, 60_000);

  it('is removed though its name or its namespace went first', async () => {
    const network = lab.driver();
    await network.ensureHostTable();
    for (const loss of [
      ['netns', 'del', `sbx-${id}`],
      ['link', 'del', ''],
    ]) {
      const { hostAddress } = await network.ensure(id, { egress: true });
      const name = lab.nameAt(hostAddress.replace(/\d+$/, (last) => String(Number(last) - 1)));
      await exec.run(['ip', ...loss.map((part) => part || name)]);
      expect(await network.find(id)).toBeUndefined();
      expect(await network.ensure(id, { egress: true })).toBeDefined();
      await exec.run(['ip', ...loss.map((part) => part || name)]);
      await network.remove(id);
      expect(await lab.leftovers()).toEqual([]);
    }
  }, 60_000);

  it('is taken over from workers that named the namespace itself after the sandbox', async () => {
    const network = lab.driver();
    await network.ensureHostTable();
    const made = await network.ensure(id, { egress: true });
    const name = lab.nameAt(made.hostAddress.replace(/\d+$/, (last) => String(Number(last) - 1)));
    const [link, real] = [`/run/netns/sbx-${id}`, `/run/netns/${name}`];
    await rm(link);
    await writeFile(link, '');
    await exec.run(['mount', '--bind', real, link]);
    await exec.run(['ip', 'netns', 'del', name]);
    expect(await lab.driver().ensure(id, { egress: false })).toEqual(made);
    expect(await network.list()).toEqual([id]);
    await network.apply(id, { egress: true });
    expect(await network.counters(id)).toMatchObject({ sentPackets: 0 });
    await network.remove(id);
    expect(await isThere(link)).toBe(false);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('is not touched by a name that leads to another sandbox', async () => {
    const network = lab.driver();
    await network.ensureHostTable();
    const other = await network.ensure(`${id}b`, { egress: true });
    const name = lab.nameAt(other.hostAddress.replace(/\d+$/, (last) => String(Number(last) - 1)));
    await symlink(name, `/run/netns/sbx-${id}`);
    await network.remove(id);
    expect(await isThere(`/run/netns/sbx-${id}`)).toBe(false);
    expect(await network.find(`${id}b`)).toEqual(other);
    await symlink(name, `/run/netns/sbx-${id}`);
    expect((await network.ensure(id, { egress: true })).hostAddress).not.toBe(other.hostAddress);
    expect(await network.find(`${id}b`)).toEqual(other);
    expect((await network.list()).toSorted()).toEqual([id, `${id}b`]);
  });

  it('is removed while a process is still in it', async () => {
    const network = lab.driver();
    await network.ensureHostTable();
    const guest = await standInGuest(`lp${RUN}`, await network.ensure(id, { egress: true }));
    const inside = new TestNamespace(`sbx-${id}`);
    await inside.serve(9090);
    await network.remove(id);
    expect(await lab.leftovers()).toEqual([`lp${RUN}`]);
    await inside.stop();
    await guest.close();
  });

  it('is told when the file system of the slots is full, where what is there can still be removed', async () => {
    await exec.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', lab.slotsDir]);
    try {
      const network = lab.driver();
      await network.ensureHostTable();
      await network.ensure(id, { egress: true });
      await fill(join(lab.slotsDir, '.ballast'));
      await expect(network.ensure(`${id}b`, { egress: true })).rejects.toMatchObject({ code: 'ENOSPC' });
      expect(await network.list()).toEqual([id]);
      expect((await readdir(lab.slotsDir)).filter((name) => name.startsWith('.'))).toEqual(['.ballast']);
      await network.apply(id, { egress: false });
      await network.remove(id);
      await rm(join(lab.slotsDir, '.ballast'));
      expect(await lab.leftovers()).toEqual([]);
    } finally {
      await exec.run(['umount', lab.slotsDir]);
    }
  }, 60_000);

  it.each([
    ['ip', /^ip -batch/, 'iproute2'],
    ['nft', /^nft/, 'nftables'],
    ['tc', /tc -batch/, 'iproute2'],
  ])('is removed later when %s was missing, whose package is named', async (command, line, name) => {
    const missing: Exec = {
      run: (argv, options) =>
        line.test(argv.join(' ')) ? new ChildProcessExec('/nowhere').run([command], options) : exec.run(argv, options),
      spawnDetached: (argv, options) => exec.spawnDetached(argv, options),
    };
    const network = lab.driver({ exec: missing });
    const policy = { egress: true, txMegabitsPerSecond: 3 };
    await expect(network.ensure(id, policy)).rejects.toThrow(new RegExp(`apt-get install ${name}`));
    // What could not be undone without the command is found once it is there again.
    await lab.driver().remove(id);
    expect(await lab.leftovers()).toEqual([]);
  });

  it('keeps the rules in place while a sandbox has them', async () => {
    const network = lab.driver();
    await network.ensureHostTable();
    await network.ensure(id, { egress: true });
    await network.removeHostTableIfUnused();
    expect((await exec.run(['nft', 'list', 'tables'])).stdout).toContain(lab.table);
    await network.remove(id);
    await network.removeHostTableIfUnused();
    expect((await exec.run(['nft', 'list', 'tables'])).stdout).not.toContain(lab.table);
  });
});

async function fill(path: string): Promise<void> {
  for (let bytes = 65_536; bytes >= 1; bytes = Math.floor(bytes / 2)) {
    for (;;) {
      try {
        await writeFile(path, Buffer.alloc(bytes), { flag: 'a' });
      } catch {
        break;
      }
    }
  }
}
