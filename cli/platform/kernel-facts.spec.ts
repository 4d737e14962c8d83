import { describe, expect, it } from '@jest/globals';
import { judgeForwarding } from './forwarding-fact.js';
import { kernelFacts } from './kernel-facts.js';
import type { KernelView } from './kernel-view.js';
import { clock, synchronization } from './time-facts.js';

const RELEASE = '6.12.0-1-amd64';
const THP = '/sys/kernel/mm/transparent_hugepage';
const CLOCK = '/sys/devices/system/clocksource/clocksource0';

/** A machine on which nothing is to be done. A file that is a number is a mode and has no content. */
const GOOD: Record<string, string | number> = {
  [`/lib/modules/${RELEASE}/modules.builtin`]: 'kernel/drivers/block/loop.ko\n',
  ...Object.fromEntries(
    ['dm_snapshot', 'tun', 'veth', 'nf_tables', 'nft_chain_nat', 'sch_tbf', 'kvm_amd'].map((name) => [
      `/sys/module/${name}`,
      0o755,
    ]),
  ),
  [`${CLOCK}/current_clocksource`]: 'tsc',
  [`${CLOCK}/available_clocksource`]: 'tsc hpet acpi_pm',
  '/proc/self/limits': 'Max open files            1048576              1048576              files',
  '/proc/sys/kernel/pid_max': '4194304',
  '/proc/sys/kernel/threads-max': '1048576',
  '/proc/sys/vm/max_map_count': '65530',
  '/proc/sys/vm/overcommit_memory': '0',
  '/proc/meminfo': 'MemTotal: 1 kB\nSwapTotal:   0 kB\nHugePages_Total:       0\nHugepagesize:       2048 kB',
  [`${THP}/enabled`]: 'always [madvise] never',
  [`${THP}/shmem_enabled`]: 'always within_size advise [never] deny force',
  '/sys/kernel/mm/ksm/run': '0',
  '/sys/kernel/security/lsm': 'lockdown,capability,landlock,yama',
  '/dev/userfaultfd': 0o100660,
  '/proc/sys/vm/unprivileged_userfaultfd': '0',
  '/dev/loop-control': 0o100660,
  '/sys/module/loop/parameters/max_loop': '0',
  '/proc/sys/net/netfilter/nf_conntrack_max': '1048576',
};

function view(changes: Record<string, string | number | undefined>, release = RELEASE): KernelView {
  const files = { ...GOOD, ...changes };
  return {
    release,
    read: async (path) => (typeof files[path] === 'string' ? files[path] : undefined),
    mode: async (path) => (files[path] === undefined ? undefined : Number(files[path]) || 0o644),
  };
}

describe('what the kernel tells', () => {
  it('leaves nothing to be done on a good machine, and requires nothing', async () => {
    const facts = await kernelFacts(view({}));
    expect(facts.filter(({ ok }) => !ok)).toEqual([]);
    expect(facts.filter(({ required }) => required)).toEqual([]);
  });

  it.each<[name: string, changes: Record<string, string | number | undefined>, detail: RegExp, remedy: RegExp]>([
    ['modules', { '/sys/module/dm_snapshot': undefined }, /not loaded: dm_snapshot$/, /^modprobe -a dm_snapshot;/],
    ['modules', { '/sys/module/kvm_amd': undefined }, /kvm_intel or kvm_amd/, /modprobe -a kvm_intel;/],
    ['clock source', { [`${CLOCK}/current_clocksource`]: 'hpet' }, /hpet/, /echo tsc > .*clocksource=tsc/],
    [
      'clock source',
      { [`${CLOCK}/current_clocksource`]: 'acpi_pm', [`${CLOCK}/available_clocksource`]: 'acpi_pm' },
      /acpi_pm/,
      /none that is fast/,
    ],
    ['limits', { '/proc/self/limits': 'Max open files  1024  4096  files' }, /open files 4096/, /LimitNOFILE=65536/],
    ['limits', { '/proc/sys/kernel/pid_max': '32768' }, /ids 32768/, /sysctl kernel.pid_max=/],
    ['limits', { '/proc/sys/kernel/threads-max': '15000' }, /threads 15000/, /sysctl kernel.threads-max=/],
    ['memory maps', { '/proc/sys/vm/max_map_count': '1000' }, /1000/, /vm.max_map_count/],
    ['overcommit', { '/proc/sys/vm/overcommit_memory': '2' }, /whole size at once/, /overcommit_memory=0/],
    ['huge pages', { '/proc/meminfo': 'HugePages_Total: 512\nHugepagesize: 2048 kB' }, /1024 MiB/, /nr_hugepages=0/],
    ['huge pages', { [`${THP}/shmem_enabled`]: '[always] never' }, /shared memory: always/, /snapshots grow/],
    ['page merging', { '/sys/kernel/mm/ksm/run': '1' }, /timing/, /ksm/],
    ['swap', { '/proc/meminfo': 'SwapTotal: 2097152 kB' }, /2048 MiB: secrets/, /swapoff/],
    ['landlock', { '/sys/kernel/security/lsm': 'capability,yama' }, /capability,yama/, /lsm=landlock,capability,yama/],
    ['landlock', { '/sys/kernel/security/lsm': undefined }, /not mounted/, /mount -t securityfs/],
    ['userfaultfd', { '/dev/userfaultfd': 0o100600 }, /mode 600/, /chmod 660/],
    ['userfaultfd', { '/dev/userfaultfd': undefined }, /is not there/, /sysctl vm.unprivileged_userfaultfd=1/],
    ['loop devices', { '/dev/loop-control': undefined }, /no \/dev\/loop-control/, /modprobe loop/],
    ['connections', { '/proc/sys/net/netfilter/nf_conntrack_max': '8192' }, /8192/, /nf_conntrack_max/],
  ])('%s: with %j', async (name, changes, detail, remedy) => {
    const bad = (await kernelFacts(view(changes))).filter(({ ok }) => !ok);
    expect(bad).toEqual([
      {
        name,
        ok: false,
        required: false,
        detail: expect.stringMatching(detail),
        remedy: expect.stringMatching(remedy),
      },
    ]);
  });

  it('does not take a kernel without a list of modules for one without modules', async () => {
    const facts = await kernelFacts(view({ [`/lib/modules/${RELEASE}/modules.builtin`]: undefined }));
    expect(facts.find(({ name }) => name === 'modules')).toMatchObject({ ok: true });
  });

  it.each([
    ['5.10.0', true],
    ['4.19.0-27-amd64', false],
    ['6.18.44-fc-v595', true],
  ])('Linux %s: %s', async (release, ok) => {
    expect((await kernelFacts(view({}, release)))[0]).toMatchObject({ name: 'kernel', ok });
  });

  it('tells of a landlock that is too old for the VMM', async () => {
    const old = { '/lib/modules/6.1.0/modules.builtin': '' };
    const facts = await kernelFacts(view(old, '6.1.0'));
    expect(facts.find(({ name }) => name === 'landlock')).toMatchObject({
      ok: false,
      detail: expect.stringContaining('older than what Cloud Hypervisor needs'),
      remedy: expect.stringContaining('Linux 6.2'),
    });
  });

  it('takes the permission of everybody for one of the user of VMs', async () => {
    const facts = await kernelFacts(
      view({ '/dev/userfaultfd': 0o100600, '/proc/sys/vm/unprivileged_userfaultfd': '1' }),
    );
    expect(facts.find(({ name }) => name === 'userfaultfd')).toMatchObject({ ok: true });
  });
});

describe('what else is judged', () => {
  const chains = (...list: object[]) =>
    JSON.stringify({ nftables: [{ metainfo: {} }, ...list.map((chain) => ({ chain }))] });

  it.each<[string | undefined, boolean, RegExp]>([
    [undefined, false, /does not list/],
    [chains(), true, /nobody/],
    [chains({ family: 'inet', table: 'torpor_1', name: 'forward', hook: 'forward', policy: 'drop' }), true, /nobody/],
    [chains({ family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'accept' }), true, /nobody/],
    [
      chains({ family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' }),
      false,
      /ip filter FORWARD/,
    ],
  ])('forwarding, of %s', (text, ok, detail) => {
    expect(judgeForwarding(text)).toMatchObject({ ok, detail: expect.stringMatching(detail) });
  });

  it('names the rule that lets guests through', () => {
    const text = chains({ family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' });
    expect(judgeForwarding(text).remedy).toContain('nft insert rule ip filter FORWARD iifname "tp*" accept');
  });

  it.each([
    ['yes', true],
    ['no', false],
    [undefined, false],
  ])('the time, when asking for its synchronization gives %s', (answer, ok) => {
    expect(synchronization(answer)).toMatchObject({ ok, required: false });
  });

  it('the clock, which cannot be older than this program', () => {
    expect(clock(Date.UTC(2024, 0, 1))).toMatchObject({ ok: false, required: true });
    expect(clock(Date.UTC(2026, 0, 1))).toMatchObject({ ok: true });
  });
});
