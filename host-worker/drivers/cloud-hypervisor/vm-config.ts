import type { DiskAttachment, VmSpec } from '../../../activities/host/ports.js';
import type { GuestBoot } from '../qemu/machine.js';
import type { CreateVm, DiskConfig, LandlockRule } from './api-types.js';

/** What a VM is made of on this host, beside what it was asked for. */
export interface VmSurroundings {
  boot: GuestBoot;
  /** The one directory that the VMM may write to. */
  workspace: string;
  landlock: boolean;
}

export function newVm(spec: VmSpec, surroundings: VmSurroundings): CreateVm {
  const { vcpus, memoryMb } = spec;
  return {
    cpus: { boot_vcpus: vcpus, max_vcpus: vcpus, nested: false },
    memory: { size: memoryMb * 1024 * 1024, shared: true },
    rng: { src: '/dev/urandom' },
    // Pages that the guest has freed go back to the host, and are not saved.
    balloon: { size: 0, deflate_on_oom: true, free_page_reporting: true },
    ...ownParts(spec, surroundings),
  };
}

type OwnParts = Pick<
  CreateVm,
  'payload' | 'disks' | 'net' | 'serial' | 'console' | 'landlock_enable' | 'landlock_rules'
>;

/** Everything that belongs to this one VM, or to this host: what saved memory must not bring along from another one. */
function ownParts({ disk, network }: VmSpec, { boot, workspace, landlock }: VmSurroundings): OwnParts {
  const rules: LandlockRule[] = landlock ? [{ path: workspace, access: 'rw' }] : [];
  return {
    payload: { kernel: boot.kernel, initramfs: boot.initramfs, cmdline: boot.cmdline },
    disks: [diskConfig(disk)],
    net: [{ tap: network.tap, mac: network.mac }],
    serial: { mode: 'Tty' },
    console: { mode: 'Off' },
    landlock_enable: landlock,
    landlock_rules: rules,
  };
}

function diskConfig({ path, format }: DiskAttachment): DiskConfig {
  return format === 'raw'
    ? { path, image_type: 'Raw', backing_files: false }
    : { path, image_type: 'Qcow2', backing_files: true };
}

/** The configuration that was saved with some VM's memory. The VMM writes more of it than is known here; that is kept. */
export interface SavedConfig extends Record<string, unknown> {
  cpus: { boot_vcpus: number };
  memory: { size: number };
  disks: Record<string, unknown>[];
  net: Record<string, unknown>[];
}

/** Undefined for what is no configuration of such a VM. */
export function parseSavedConfig(text: string): SavedConfig | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined;
  const { cpus, memory, disks, net } = parsed as Partial<SavedConfig>;
  const shaped = typeof cpus?.boot_vcpus === 'number' && typeof memory?.size === 'number';
  const single = Array.isArray(disks) && disks.length === 1 && Array.isArray(net) && net.length === 1;
  return shaped && single ? (parsed as SavedConfig) : undefined;
}

/**
 * The saved configuration for another VM. Every path, device and rule becomes this one's, so that what was saved of one
 * sandbox or template can go on as any other; the devices keep their places and names, which the saved state refers to.
 */
export function adoptedConfig(saved: SavedConfig, spec: VmSpec, surroundings: VmSurroundings): SavedConfig {
  const { disks, net, ...rest } = ownParts(spec, surroundings);
  return {
    ...saved,
    ...rest,
    serial: { ...(saved['serial'] as object | undefined), file: null, socket: null, ...rest.serial },
    console: { ...(saved['console'] as object | undefined), file: null, socket: null, ...rest.console },
    disks: saved.disks.map((disk) => ({ ...disk, ...disks[0] })),
    // Read from the tap by the VMM itself: another one's address would be set on this VM's tap.
    net: saved.net.map((card) => ({ ...card, host_mac: null, ...net[0] })),
  };
}
