/**
 * Which driver serves each port of this machine, from what was found out about it.
 * `torpor doctor` prints this and the host worker acts on it, so both always agree.
 * Pure: whoever asks does the probing.
 */
export type Port = 'hypervisor' | 'disk' | 'network' | 'guest';

/** A capability that was tried rather than assumed. `why` says what was seen, in either case. */
export interface Finding {
  usable: boolean;
  why: string;
}

export interface MachineFindings {
  /** `qemu-system-*` can be run. */
  qemu: Finding;
  /** A real kernel was booted under KVM; an open /dev/kvm is no proof. */
  kvm: Finding;
  qemuImg: Finding;
  /** Network namespaces, veth, tun and nftables, with the rights to make them. */
  netns: Finding;
  /** Kernel, initramfs and a root filesystem with the guest agent are built. */
  images: Finding;
}

/** What the operator asked for; `auto` leaves it to the findings. */
export interface DriverWishes {
  hypervisor: 'auto' | 'qemu';
  accel: 'auto' | 'kvm' | 'tcg';
}

/** `driver` is undefined when the port cannot work on this machine; `why` then says what is missing. */
export interface DriverChoice {
  port: Port;
  driver: string | undefined;
  why: string;
  /** Only of the hypervisor: how it runs guest code. */
  accel?: 'kvm' | 'tcg';
}

export function chooseDrivers(findings: MachineFindings, wishes: DriverWishes): DriverChoice[] {
  return [
    chooseHypervisor(findings, wishes),
    choose('disk', 'qcow2', findings.qemuImg),
    choose('network', 'netns', findings.netns),
    choose('guest', 'envd', findings.images),
  ];
}

function chooseHypervisor({ qemu, kvm }: MachineFindings, { accel }: DriverWishes): DriverChoice {
  if (!qemu.usable) return { port: 'hypervisor', driver: undefined, why: qemu.why };
  if (accel === 'tcg') {
    return { port: 'hypervisor', driver: 'qemu', accel: 'tcg', why: `${qemu.why}; software emulation was asked for` };
  }
  if (kvm.usable) return { port: 'hypervisor', driver: 'qemu', accel: 'kvm', why: `${qemu.why}; ${kvm.why}` };
  if (accel === 'kvm') {
    return { port: 'hypervisor', driver: undefined, why: `KVM was asked for and does not work: ${kvm.why}` };
  }
  return {
    port: 'hypervisor',
    driver: 'qemu',
    accel: 'tcg',
    why: `${qemu.why}; software emulation, because ${kvm.why}`,
  };
}

function choose(port: Port, driver: string, finding: Finding): DriverChoice {
  return { port, driver: finding.usable ? driver : undefined, why: finding.why };
}
