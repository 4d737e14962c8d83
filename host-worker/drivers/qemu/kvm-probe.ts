import { createHash } from 'node:crypto';
import { access, constants, readFile } from 'node:fs/promises';
import { CommandError, type Exec } from '../../exec.js';
import { type Accel, type GuestBoot, baseArguments, cpuModel, qemuBinary } from './machine.js';
import { asUser, lookUpUser, mayOpen } from '../vmm/vm-user.js';

const DEADLINE_MS = { least: 10_000, most: 120_000 };
/** A processor hashes these in 5 to 20 ms, and boots the test guest in a second. */
const YARDSTICK_BYTES = 8 * 1024 * 1024;
const DEADLINE_PER_YARDSTICK = 400;
const DEVICE = '/dev/kvm';
/** What the initramfs prints of a disk without a file system: by then the kernel and its first program have run. */
const ALIVE = 'torpor-initramfs: cannot mount';
const EMPTY_DISK = [
  '-blockdev',
  'driver=null-co,node-name=disk,size=1048576,read-zeroes=on',
  '-device',
  'virtio-blk-pci,drive=disk',
];

export interface KvmFinding {
  usable: boolean;
  reason: string;
  /** What would make it usable, where that is known. */
  remedy?: string;
  /** Another attempt during this boot of the machine would find the same. */
  lasting?: boolean;
}

/** A guest that boots as far as it can without a file system and powers off, by the VMM that is to run the others. */
export interface TestGuest {
  /** Name of the VMM, for people. */
  vmm: string;
  /** Prints the guest's console and ends with the guest. */
  argv: readonly string[];
}

export interface KvmProbeOptions {
  vmUser?: string;
  /** As this machine is fast, by default. */
  deadlineMs?: number;
  signal?: AbortSignal;
  /** Only tests have reason to change it. */
  device?: string;
}

/**
 * Whether guests can run under KVM on this machine, found out afresh. Where the user that
 * VMs run as has no access, a guest is booted as root, to tell whether giving access would
 * help.
 */
export async function probeKvm(exec: Exec, guest: TestGuest, options: KvmProbeOptions = {}): Promise<KvmFinding> {
  const refused = await kvmRefusal(exec, options);
  if (refused?.remedy === undefined) return refused ?? bootUnderKvm(exec, guest, options);
  const { vmUser: _, ...asRoot } = options;
  const found = await bootUnderKvm(exec, guest, asRoot);
  return found.usable
    ? { usable: false, reason: `it works as root, but ${refused.reason}`, remedy: refused.remedy }
    : found;
}

/** Why KVM cannot be used, as far as that can be told without booting anything. */
export async function kvmRefusal(exec: Exec, options: KvmProbeOptions): Promise<KvmFinding | undefined> {
  const { vmUser, device = DEVICE } = options;
  if (!(await exists(device))) {
    const reason = `there is no ${device}; the processor or the hypervisor around this machine offers none`;
    return { usable: false, reason };
  }
  if (vmUser === undefined || (await mayOpen(exec, await lookUpUser(exec, vmUser), device))) return undefined;
  const remedy = `groupadd -f -r kvm && chgrp kvm ${device} && chmod 660 ${device} && usermod -aG kvm ${vmUser}`;
  return { usable: false, reason: `${vmUser} may not open ${device}`, remedy: `give ${vmUser} access: ${remedy}` };
}

/**
 * Boots the real kernel to its first program, as the user that VMs run as. A device that
 * opens proves nothing: some paravirtual hypervisors offer one that dies in every real
 * kernel.
 */
export async function bootUnderKvm(exec: Exec, guest: TestGuest, options: KvmProbeOptions): Promise<KvmFinding> {
  const { deadlineMs = deadlineOfThisMachine(), vmUser } = options;
  const prefix = vmUser === undefined ? [] : await asUser(await lookUpUser(exec, vmUser), true);
  const argv = [...prefix, ...guest.argv];
  try {
    const begun = Date.now();
    const { stdout } = await exec.run(argv, { timeoutMs: deadlineMs, signal: options.signal });
    if (!stdout.includes(ALIVE)) {
      const reason = `a test guest ended under KVM before its first program ran: ${lastLine(stdout)}`;
      return { usable: false, reason, lasting: true };
    }
    const reason = `a test guest of ${guest.vmm} booted under KVM in ${Date.now() - begun} ms`;
    return { usable: true, reason, lasting: true };
  } catch (err) {
    if (!(err instanceof CommandError)) throw err;
    if (!err.timedOut) {
      return { usable: false, reason: `${guest.vmm} could not run a test guest under KVM: ${lastLine(err.stderr)}` };
    }
    const seconds = Math.round(deadlineMs / 1_000);
    const reason = `${DEVICE} opens, but a test guest did not reach its first program in ${seconds} s: unusable`;
    return { usable: false, reason, lasting: true };
  }
}

export async function qemuTestGuest(boot: GuestBoot): Promise<TestGuest> {
  const cpu = cpuModel('kvm', await readFile('/proc/cpuinfo', 'utf8'));
  return { vmm: 'QEMU', argv: probeArguments('kvm', cpu, boot) };
}

export function probeArguments(accel: Accel, cpu: string, boot: GuestBoot): string[] {
  return [
    ...[qemuBinary(), ...baseArguments(accel, cpu, 1, 128), ...EMPTY_DISK],
    ...['-serial', 'stdio', '-kernel', boot.kernel, '-initrd', boot.initramfs, '-append', boot.cmdline],
  ];
}

/**
 * On a machine that is itself emulated a guest takes twenty times as long, and that it does
 * is no fault of KVM. So the time it gets is counted in the time that a known work takes here.
 */
function deadlineOfThisMachine(): number {
  const begun = performance.now();
  createHash('sha256').update(Buffer.alloc(YARDSTICK_BYTES)).digest();
  const asked = Math.round((performance.now() - begun) * DEADLINE_PER_YARDSTICK);
  return Math.min(Math.max(asked, DEADLINE_MS.least), DEADLINE_MS.most);
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}

async function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  );
}
