/**
 * Which driver serves each port of this machine, from what was found out about it.
 * `torpor doctor` prints this and the host worker acts on it, so both always agree.
 * Pure: whoever asks does the probing.
 */
export type Port = 'hypervisor' | 'disk' | 'network' | 'guest';

export const HYPERVISORS = ['cloud-hypervisor', 'qemu'] as const;
export const DISKS = ['dm-snapshot', 'qcow2'] as const;
export type HypervisorName = (typeof HYPERVISORS)[number];
export type DiskName = (typeof DISKS)[number];

/** A capability that was tried rather than assumed. `why` says what was seen, in either case. */
export interface Finding {
  usable: boolean;
  why: string;
}

export interface MachineFindings {
  /** `cloud-hypervisor` can be run and is new enough. */
  cloudHypervisor: Finding;
  /** `qemu-system-*` can be run. */
  qemu: Finding;
  /** A real kernel was booted under KVM; an open /dev/kvm is no proof. */
  kvm: Finding;
  /** A snapshot device was made over loop devices and removed. */
  dmSnapshot: Finding;
  qemuImg: Finding;
  /** Network namespaces, veth, tun and nftables, with the rights to make them. */
  netns: Finding;
  /** Kernel, initramfs and a root filesystem with the guest agent are built. */
  images: Finding;
}

/** What the operator asked for; `auto` leaves it to the findings. */
export interface DriverWishes {
  hypervisor: 'auto' | HypervisorName;
  disk: 'auto' | DiskName;
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

/**
 * Cloud Hypervisor on dm-snapshot is what a production machine is meant to run, and is taken
 * wherever all it takes works: KVM, the binary and device-mapper. It boots raw disks only, so
 * the two come as a pair. QEMU runs everywhere and reads both kinds of disk.
 */
export function chooseDrivers(findings: MachineFindings, wishes: DriverWishes): DriverChoice[] {
  const hypervisor = chooseHypervisor(findings, wishes);
  return [
    hypervisor,
    chooseDisk(findings, wishes, hypervisor),
    choose('network', 'netns', findings.netns),
    choose('guest', 'envd', findings.images),
  ];
}

function chooseHypervisor(findings: MachineFindings, wishes: DriverWishes): DriverChoice {
  const obstacle = cloudHypervisorObstacle(findings, wishes);
  if (wishes.hypervisor === 'cloud-hypervisor' || (wishes.hypervisor === 'auto' && obstacle === undefined)) {
    const { cloudHypervisor, kvm } = findings;
    if (obstacle === undefined)
      return {
        port: 'hypervisor',
        driver: 'cloud-hypervisor',
        accel: 'kvm',
        why: `${cloudHypervisor.why}; ${kvm.why}`,
      };
    return missing('hypervisor', `Cloud Hypervisor was asked for and cannot be used: ${obstacle}`);
  }
  return chooseQemu(findings, wishes, obstacle);
}

/** Why Cloud Hypervisor cannot be used here, the first reason of possibly several. */
function cloudHypervisorObstacle(
  { cloudHypervisor, kvm, dmSnapshot }: MachineFindings,
  { disk, accel }: DriverWishes,
): string | undefined {
  if (accel === 'tcg')
    return 'it cannot emulate a processor, and TORPOR_QEMU_ACCEL=tcg asks for that: unset TORPOR_QEMU_ACCEL, or set TORPOR_HYPERVISOR=qemu';
  if (disk === 'qcow2')
    return 'it boots raw disks only, and TORPOR_DISK=qcow2 makes others: set TORPOR_DISK=dm-snapshot, or TORPOR_HYPERVISOR=qemu';
  if (!cloudHypervisor.usable) return cloudHypervisor.why;
  if (!kvm.usable) return `it needs KVM, and ${kvm.why}`;
  if (!dmSnapshot.usable) return `it needs the disks of dm-snapshot, which do not work: ${dmSnapshot.why}`;
  return undefined;
}

/** `instead` is why it is not Cloud Hypervisor; whoever asked for QEMU does not want to read that. */
function chooseQemu(
  { qemu, kvm }: MachineFindings,
  { hypervisor, accel }: DriverWishes,
  instead: string | undefined,
): DriverChoice {
  const reason = hypervisor === 'qemu' || instead === undefined ? '' : `; not Cloud Hypervisor: ${instead}`;
  if (!qemu.usable) return missing('hypervisor', `${qemu.why}${reason}`);
  const chosen = { port: 'hypervisor', driver: 'qemu' } as const;
  if (accel === 'tcg') return { ...chosen, accel: 'tcg', why: `${qemu.why}; software emulation was asked for` };
  if (kvm.usable) return { ...chosen, accel: 'kvm', why: `${qemu.why}; ${kvm.why}${reason}` };
  if (accel === 'kvm') return missing('hypervisor', `KVM was asked for and does not work: ${kvm.why}`);
  return { ...chosen, accel: 'tcg', why: `${qemu.why}; software emulation, because ${kvm.why}` };
}

function chooseDisk(
  { dmSnapshot, qemuImg }: MachineFindings,
  { disk }: DriverWishes,
  { driver: hypervisor }: DriverChoice,
): DriverChoice {
  const qcow2 = choose('disk', 'qcow2', qemuImg);
  const snapshot = choose('disk', 'dm-snapshot', dmSnapshot);
  if (disk === 'qcow2') return qcow2;
  if (disk === 'dm-snapshot' || hypervisor === 'cloud-hypervisor') return snapshot;
  // QEMU's own format first: it needs no devices of the kernel, of which a machine has not many.
  if (qcow2.driver !== undefined || snapshot.driver === undefined) return qcow2;
  return { ...snapshot, why: `${snapshot.why}; not qcow2: ${qcow2.why}` };
}

function choose(port: Port, driver: string, finding: Finding): DriverChoice {
  return { port, driver: finding.usable ? driver : undefined, why: finding.why };
}

function missing(port: Port, why: string): DriverChoice {
  return { port, driver: undefined, why };
}
