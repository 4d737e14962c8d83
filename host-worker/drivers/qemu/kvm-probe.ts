import { access, constants, readFile } from 'node:fs/promises';
import { CommandError, type Exec } from '../../exec.js';
import { type Accel, type GuestBoot, baseArguments, cpuModel, qemuBinary } from './machine.js';
import { asUser, lookUpUser } from './vm-user.js';

const DEADLINE_MS = 10_000;
/** What the initramfs prints of a disk without a file system: by then the kernel and its first program have run. */
const ALIVE = 'torpor-initramfs: cannot mount';
const EMPTY_DISK = [
  '-blockdev',
  'driver=null-co,node-name=disk,size=1048576,read-zeroes=on',
  '-device',
  'virtio-blk-pci,drive=disk',
];

/**
 * Whether guests can run under KVM on this machine. A device that opens proves nothing,
 * as some paravirtual hypervisors offer one that dies in every real kernel; so the real
 * kernel is booted to its first program, as the user that VMs run as.
 */
export async function probeKvm(
  exec: Exec,
  boot: GuestBoot,
  options: { vmUser?: string; deadlineMs?: number; signal?: AbortSignal } = {},
): Promise<{ usable: boolean; reason: string }> {
  if (!(await exists('/dev/kvm'))) {
    return {
      usable: false,
      reason: 'there is no /dev/kvm; the processor or the hypervisor around this machine offers none',
    };
  }
  const { deadlineMs = DEADLINE_MS } = options;
  const prefix = options.vmUser === undefined ? [] : await asUser(await lookUpUser(exec, options.vmUser), true);
  const cpu = cpuModel('kvm', await readFile('/proc/cpuinfo', 'utf8'));
  const argv = [...prefix, ...probeArguments('kvm', cpu, boot)];
  try {
    const begun = Date.now();
    const { stdout } = await exec.run(argv, { timeoutMs: deadlineMs, signal: options.signal });
    if (!stdout.includes(ALIVE)) {
      return {
        usable: false,
        reason: `a test guest ended under KVM before its first program ran: ${lastLine(stdout)}`,
      };
    }
    return { usable: true, reason: `a test guest booted under KVM (${cpu}) in ${Date.now() - begun} ms` };
  } catch (err) {
    if (!(err instanceof CommandError)) throw err;
    return { usable: false, reason: reasonOf(err, deadlineMs, options.vmUser) };
  }
}

/** A guest that boots as far as it can without a file system and powers off. */
export function probeArguments(accel: Accel, cpu: string, boot: GuestBoot): string[] {
  return [
    ...[qemuBinary(), ...baseArguments(accel, cpu, 1, 128), ...EMPTY_DISK],
    ...['-serial', 'stdio', '-kernel', boot.kernel, '-initrd', boot.initramfs, '-append', boot.cmdline],
  ];
}

function reasonOf(err: CommandError, deadlineMs: number, vmUser: string | undefined): string {
  if (err.timedOut) return `/dev/kvm opens, but a test guest did not reach its first program within ${deadlineMs} ms`;
  if (/Could not access KVM.*Permission denied/s.test(err.stderr)) {
    const remedy = 'chgrp kvm /dev/kvm && chmod 660 /dev/kvm';
    return `${vmUser ?? 'this user'} may not open /dev/kvm; run \`${remedy}\` and probe again`;
  }
  return `QEMU could not run a test guest under KVM: ${lastLine(err.stderr)}`;
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
