import type { Finding } from '../../host-worker/driver-choice.js';
import {
  cloudHypervisorTestGuest,
  type FoundCloudHypervisor,
} from '../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor-probe.js';
import { probeKvm, qemuTestGuest } from '../../host-worker/drivers/qemu/kvm-probe.js';
import { ChildProcessExec } from '../../host-worker/exec.js';
import type { CliConfig } from '../config.js';
import { readImages } from './guest-image.js';
import { findUser } from './system-users.js';

/**
 * Whether a guest really boots under KVM, tried afresh with the VMM that would run the others.
 * Without a kernel to boot that stays open, and counts as no.
 */
export async function kvmFinding(
  config: CliConfig,
  { cloudHypervisor, qemu }: { cloudHypervisor: FoundCloudHypervisor; qemu: boolean },
): Promise<Finding & { remedy?: string }> {
  const binary = cloudHypervisor.usable && config.wishes.hypervisor !== 'qemu' ? cloudHypervisor.binary : undefined;
  if (binary === undefined && !qemu)
    return { usable: false, why: 'it cannot be tried without QEMU or Cloud Hypervisor' };
  const images = readImages(config);
  if (images === undefined) return { usable: false, why: 'it cannot be tried before `torpor setup` built a kernel' };
  const boot = { kernel: images.kernel.path, initramfs: images.initramfs.path, cmdline: images.cmdline };
  const guest = binary === undefined ? await qemuTestGuest(boot) : cloudHypervisorTestGuest(binary, boot);
  const root = process.getuid?.() === 0;
  const asVmUser = root && findUser(config.vmUser) !== undefined ? { vmUser: config.vmUser } : {};
  const { usable, reason, remedy } = await probeKvm(new ChildProcessExec(), guest, asVmUser);
  return { usable, why: reason, ...(remedy === undefined ? {} : { remedy }) };
}
