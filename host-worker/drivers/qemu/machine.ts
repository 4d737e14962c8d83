import type { VmSpec } from '../../../activities/host/ports.js';

/** How guest code is run: on the processor, or emulated. */
export type Accel = 'kvm' | 'tcg';

/** The kernel side of every guest, from the image catalogue. */
export interface GuestBoot {
  kernel: string;
  initramfs: string;
  cmdline: string;
}

/** Paths of one VM that the VMM opens or makes by itself. */
export interface VmPaths {
  /** Commands of this worker, one at a time. */
  control: string;
  /** Short questions, answered also while a long command has `control`. */
  query: string;
  console: string;
}

/**
 * Pinned, because memory saved on one machine type only loads into the same one: every
 * QEMU from 6.2 on has this one, so that upgrading QEMU keeps paused sandboxes.
 */
const MACHINE = 'pc-q35-6.2';

/** Translated code; more than a small guest ever runs, and the default would be an eighth of the machine's memory. */
export const TRANSLATION_CACHE_MB = 256;

/** Descriptor under which a restored VM inherits its memory file. */
export const MEMORY_FD = 3;

/**
 * Denied to the VMM by seccomp: obsolete calls, gaining privileges, starting processes,
 * and changing priorities. Nothing it does for us needs them: taps and memory files are
 * opened for it or by it, and saved memory goes over a socket rather than through `exec:`.
 */
const SECCOMP = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

export function qemuBinary(): string {
  return process.arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
}

/** What a VMM answers when it is asked who it is. */
export function vmName(id: string): string {
  return `torpor-${id}`;
}

/** Machine and processor alone, as the probe boots them too. */
export function baseArguments(accel: Accel, cpu: string, vcpus: number, memoryMb: number): string[] {
  return [
    '-nodefaults',
    '-no-user-config',
    ...['-display', 'none'],
    ...['-machine', `${MACHINE},usb=off,sata=off,smbus=off,vmport=off,mem-merge=off,dump-guest-core=off`],
    ...['-accel', accel === 'kvm' ? 'kvm' : `tcg,thread=multi,tb-size=${TRANSLATION_CACHE_MB}`],
    ...['-cpu', cpu],
    ...['-smp', `cpus=${vcpus}`],
    ...['-m', `${memoryMb}M`],
    ...['-sandbox', SECCOMP],
    // A guest that reboots or panics ends; starting it again is the platform's decision.
    '-no-reboot',
  ];
}

export function vmArguments(vm: {
  id: string;
  accel: Accel;
  cpu: string;
  spec: VmSpec;
  boot: GuestBoot;
  paths: VmPaths;
}): string[] {
  const { spec, boot, paths } = vm;
  return [
    ...['-name', `guest=${vmName(vm.id)}`],
    ...baseArguments(vm.accel, vm.cpu, spec.vcpus, spec.memoryMb),
    ...['-msg', 'timestamp=on'],
    ...monitor('control', paths.control),
    ...monitor('query', paths.query),
    ...['-chardev', `file,id=console,path=${escaped(paths.console)},append=on`, '-serial', 'chardev:console'],
    ...disk(spec),
    ...['-netdev', `tap,id=net0,ifname=${spec.network.tap},script=no,downscript=no`],
    // An empty romfile: nobody boots from the network, and a ROM would be saved with every snapshot.
    ...['-device', `virtio-net-pci,netdev=net0,mac=${spec.network.mac},romfile=`],
    ...['-object', 'rng-builtin,id=rng0', '-device', 'virtio-rng-pci,rng=rng0'],
    // Pages that the guest has freed go back to the host, and are not saved.
    ...['-device', 'virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on'],
    ...['-kernel', boot.kernel, '-initrd', boot.initramfs, '-append', boot.cmdline],
    ...(spec.memoryFile === undefined ? [] : ['-incoming', 'defer']),
  ];
}

function monitor(id: string, path: string): string[] {
  return ['-chardev', `socket,id=${id},path=${escaped(path)},server=on,wait=off`, '-mon', `chardev=${id},mode=control`];
}

function disk(spec: VmSpec): string[] {
  // Each refuses what the other is for.
  const driver = spec.disk.path.startsWith('/dev/') ? 'host_device' : 'file';
  const file = { 'node-name': 'disk-file', driver, filename: spec.disk.path, discard: 'unmap' };
  const format = { 'node-name': 'disk', driver: spec.disk.format, file: 'disk-file', discard: 'unmap' };
  return [
    ...['-blockdev', JSON.stringify(file), '-blockdev', JSON.stringify(format)],
    // A full host disk stops the guest rather than failing its writes: with space again it can go on.
    ...['-device', 'virtio-blk-pci,drive=disk,werror=enospc,rerror=report'],
  ];
}

/** QEMU's own lists of options end at commas. */
function escaped(path: string): string {
  return path.replaceAll(',', ',,');
}

/**
 * The processor a guest sees. Under KVM a named baseline of the vendor, so that memory
 * can be restored on any host at least as new; emulation offers the same everywhere.
 */
export function cpuModel(accel: Accel, cpuinfo: string): string {
  // Five-level page tables cost a lookup each and small guests have no use for them.
  if (accel === 'tcg') return 'max,la57=off';
  const flags = new Set((/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1] ?? '').trim().split(' '));
  const modern = ['avx2', 'bmi2', 'fma', 'movbe'].every((flag) => flags.has(flag));
  if (!modern) return 'Nehalem';
  return /^vendor_id\s*:\s*AuthenticAMD/m.test(cpuinfo) ? 'EPYC-v1' : 'Haswell-v2';
}
