import { fact, type Fact } from './machine-facts.js';
import type { KernelView } from './kernel-view.js';

/** The facts that can be read off the kernel without trying anything. All are optional: what is required is tried. */
export function kernelFacts(kernel: KernelView): Promise<Fact[]> {
  return Promise.all(
    [
      version,
      modules,
      clockSource,
      limits,
      mapCounts,
      overcommit,
      hugePages,
      samePages,
      swap,
      landlock,
      faultHandling,
      loopDevices,
      connections,
    ].map((judge) => judge(kernel)),
  );
}

/** Older ones lack parts of what snapshots in the background need. */
const OLDEST_KERNEL = [5, 10] as const;

async function version({ release }: KernelView): Promise<Fact> {
  const ok = isAtLeast(release, OLDEST_KERNEL);
  return fact('kernel', false, { ok, detail: release }, `use Linux ${OLDEST_KERNEL.join('.')} or newer`);
}

/** Loaded at boot rather than on demand, so that a machine that lacks one is noticed at its start. */
export const MODULES = ['dm_snapshot', 'loop', 'tun', 'veth', 'nf_tables', 'nft_chain_nat', 'sch_tbf'] as const;
/** Whichever fits the processor. */
const KVM_MODULES = ['kvm_intel', 'kvm_amd', 'kvm_pvm'];

async function modules(kernel: KernelView): Promise<Fact> {
  const builtIn = await kernel.read(`/lib/modules/${kernel.release}/modules.builtin`);
  const isThere = async (name: string) =>
    (await kernel.mode(`/sys/module/${name}`)) !== undefined || builtIn?.includes(`/${name}.ko`) === true;
  if (builtIn === undefined) {
    const detail = `this kernel has no list of its modules in /lib/modules/${kernel.release}; what they do is tried`;
    return fact('modules', false, { ok: true, detail }, '');
  }
  const missing: string[] = [];
  for (const name of MODULES) if (!(await isThere(name))) missing.push(name);
  const kvm = (await Promise.all(KVM_MODULES.map(isThere))).some(Boolean);
  if (!kvm) missing.push('kvm_intel or kvm_amd');
  const detail = missing.length === 0 ? `${MODULES.join(', ')} and KVM's` : `not loaded: ${missing.join(', ')}`;
  const names = missing.map((name) => name.split(' ')[0]).join(' ');
  const remedy = `modprobe -a ${names}; at each boot: \`torpor install\` writes /etc/modules-load.d/torpor.conf`;
  return fact('modules', false, { ok: missing.length === 0, detail }, remedy);
}

/** Reading these takes a system call into the hypervisor or a slow device; guests that ask for the time often stand still. */
const SLOW_CLOCKS = ['hpet', 'acpi_pm', 'jiffies', 'pit'];

async function clockSource(kernel: KernelView): Promise<Fact> {
  const directory = '/sys/devices/system/clocksource/clocksource0';
  const current = (await kernel.read(`${directory}/current_clocksource`)) ?? 'unknown';
  const offered = (await kernel.read(`${directory}/available_clocksource`)) ?? '';
  const better = offered.split(' ').find((name) => ['tsc', 'kvm-clock', 'arch_sys_counter'].includes(name));
  const remedy =
    better === undefined
      ? 'none that is fast is offered: look for "clocksource" and "tsc" in `dmesg`; a virtual machine may need another processor type'
      : `echo ${better} > ${directory}/current_clocksource; at each boot: clocksource=${better} on the kernel's command line`;
  return fact('clock source', false, { ok: !SLOW_CLOCKS.includes(current), detail: current }, remedy);
}

const LEAST_FILES = 65_536;
const LEAST_PROCESSES = 131_072;

async function limits(kernel: KernelView): Promise<Fact> {
  const own = (await kernel.read('/proc/self/limits')) ?? '';
  const files = numberOf(/^Max open files\s+\S+\s+(\S+)/m.exec(own)?.[1]);
  const processes = numberOf(await kernel.read('/proc/sys/kernel/pid_max'));
  const threads = numberOf(await kernel.read('/proc/sys/kernel/threads-max'));
  const low = [
    ...(files < LEAST_FILES ? [`LimitNOFILE=${LEAST_FILES} in the unit, or ulimit -n ${LEAST_FILES}`] : []),
    ...(processes < LEAST_PROCESSES ? [`sysctl kernel.pid_max=${4 * 1024 * 1024}`] : []),
    ...(threads < LEAST_PROCESSES ? [`sysctl kernel.threads-max=${LEAST_PROCESSES}`] : []),
  ];
  const detail = `open files ${files}, process ids ${processes}, threads ${threads}`;
  // A VMM with its threads takes up to a hundred and thirty of the latter two.
  return fact('limits', false, { ok: low.length === 0, detail }, `for hundreds of sandboxes: ${low.join('; ')}`);
}

const LEAST_MAPS = 65_530;

async function mapCounts(kernel: KernelView): Promise<Fact> {
  const maps = numberOf(await kernel.read('/proc/sys/vm/max_map_count'));
  const ok = maps >= LEAST_MAPS;
  return fact('memory maps', false, { ok, detail: `${maps} per process` }, `sysctl vm.max_map_count=${LEAST_MAPS * 4}`);
}

async function overcommit(kernel: KernelView): Promise<Fact> {
  const mode = (await kernel.read('/proc/sys/vm/overcommit_memory')) ?? '0';
  const detail = mode === '2' ? 'mode 2: a guest takes its whole size at once, touched or not' : `mode ${mode}`;
  return fact('overcommit', false, { ok: mode !== '2', detail }, 'sysctl vm.overcommit_memory=0');
}

/** Guests do not use reserved pages: memory in large pieces would be saved in large pieces, too. */
async function hugePages(kernel: KernelView): Promise<Fact> {
  const info = (await kernel.read('/proc/meminfo')) ?? '';
  const reserved = numberOf(/^HugePages_Total:\s*(\d+)/m.exec(info)?.[1] ?? '0');
  const kibibytes = reserved * numberOf(/^Hugepagesize:\s*(\d+)/m.exec(info)?.[1] ?? '0');
  const base = '/sys/kernel/mm/transparent_hugepage';
  const chosen = async (file: string) => /\[(\w+)\]/.exec((await kernel.read(`${base}/${file}`)) ?? '')?.[1] ?? 'none';
  const shared = await chosen('shmem_enabled');
  const detail = `transparent: ${await chosen('enabled')}, of shared memory: ${shared}; reserved: ${Math.round(kibibytes / 1024)} MiB`;
  const wasteful = ['always', 'force'].includes(shared);
  const remedies = [
    ...(reserved > 0 ? ['guests cannot have what is reserved: sysctl vm.nr_hugepages=0'] : []),
    ...(wasteful ? [`snapshots grow: echo never > ${base}/shmem_enabled`] : []),
  ];
  return fact('huge pages', false, { ok: remedies.length === 0, detail }, remedies.join('; '));
}

async function samePages(kernel: KernelView): Promise<Fact> {
  const runs = (await kernel.read('/sys/kernel/mm/ksm/run')) === '1';
  const detail = runs
    ? 'pages of different guests are merged: one can find out by timing what another one holds'
    : 'off';
  return fact(
    'page merging',
    false,
    { ok: !runs, detail },
    'echo 2 > /sys/kernel/mm/ksm/run; disable ksm.service and ksmtuned',
  );
}

async function swap(kernel: KernelView): Promise<Fact> {
  const info = (await kernel.read('/proc/meminfo')) ?? '';
  const kibibytes = numberOf(/^SwapTotal:\s*(\d+)/m.exec(info)?.[1] ?? '0');
  const detail = kibibytes === 0 ? 'off' : `${Math.round(kibibytes / 1024)} MiB: secrets of guests can reach that disk`;
  return fact(
    'swap',
    false,
    { ok: kibibytes === 0, detail },
    'swapoff -a and take it out of /etc/fstab, or encrypt it',
  );
}

/** The first whose landlock knows of shortening files. */
const OLDEST_FULL_LANDLOCK = [6, 2] as const;
const WITHOUT = 'VMMs are confined by user, seccomp and namespace without it';

async function landlock(kernel: KernelView): Promise<Fact> {
  const active = await kernel.read('/sys/kernel/security/lsm');
  const offered = active?.split(',').includes('landlock') === true;
  if (offered && !isAtLeast(kernel.release, OLDEST_FULL_LANDLOCK)) {
    const detail = `that of Linux ${kernel.release} is older than what Cloud Hypervisor needs`;
    const remedy = `use Linux ${OLDEST_FULL_LANDLOCK.join('.')} or newer; ${WITHOUT}`;
    return fact('landlock', false, { ok: false, detail }, remedy);
  }
  const detail = offered
    ? 'confines the VMM to its files'
    : `not among the security modules (${active ?? 'securityfs is not mounted'})`;
  const remedy =
    active === undefined
      ? 'mount -t securityfs securityfs /sys/kernel/security, and look again'
      : `lsm=landlock,${active} on the kernel's command line; ${WITHOUT}`;
  return fact('landlock', false, { ok: offered, detail }, remedy);
}

/** Memory on demand needs a way for an unprivileged VMM to be told of missing pages. */
async function faultHandling(kernel: KernelView): Promise<Fact> {
  const mode = await kernel.mode('/dev/userfaultfd');
  const setting = await kernel.read('/proc/sys/vm/unprivileged_userfaultfd');
  const ok = setting === '1' || ((mode ?? 0) & 0o060) === 0o060 || ((mode ?? 0) & 0o006) === 0o006;
  const device = mode === undefined ? 'is not there' : `has mode ${(mode & 0o777).toString(8)}`;
  const detail = `/dev/userfaultfd ${device}, vm.unprivileged_userfaultfd=${setting ?? 'absent'}`;
  const remedy =
    mode === undefined
      ? 'sysctl vm.unprivileged_userfaultfd=1'
      : 'chgrp kvm /dev/userfaultfd && chmod 660 /dev/userfaultfd; at each boot: `torpor install` writes a rule of udev';
  return fact('userfaultfd', false, { ok, detail }, `without it memory is restored eagerly: ${remedy}`);
}

async function loopDevices(kernel: KernelView): Promise<Fact> {
  const most = await kernel.read('/sys/module/loop/parameters/max_loop');
  const offered = (await kernel.mode('/dev/loop-control')) !== undefined;
  const detail = offered
    ? `made on demand${most === undefined ? '' : ` (max_loop=${most})`}`
    : 'there is no /dev/loop-control';
  return fact('loop devices', false, { ok: offered, detail }, 'for the dm-snapshot disk driver: modprobe loop');
}

const LEAST_CONNECTIONS = 65_536;

async function connections(kernel: KernelView): Promise<Fact> {
  const most = await kernel.read('/proc/sys/net/netfilter/nf_conntrack_max');
  const ok = most === undefined || Number(most) >= LEAST_CONNECTIONS;
  const detail = most === undefined ? 'tracking is not loaded yet' : `at most ${most} tracked`;
  return fact('connections', false, { ok, detail }, `sysctl net.netfilter.nf_conntrack_max=${LEAST_CONNECTIONS * 4}`);
}

/** `unlimited` counts as more than enough, and what cannot be read as none. */
function numberOf(text: string | undefined): number {
  return text === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(text ?? 0) || 0;
}

function isAtLeast(release: string, [wantedMajor, wantedMinor]: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = release.split('.').map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
