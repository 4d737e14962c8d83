import type { Finding } from '../../host-worker/driver-choice.js';
import { probeKvm } from '../../host-worker/drivers/qemu/kvm-probe.js';
import { ChildProcessExec } from '../../host-worker/exec.js';
import type { CliConfig } from '../config.js';
import { readImages } from './guest-image.js';
import { findUser } from './system-users.js';

/** Whether a guest really boots under KVM, tried afresh. Without a kernel to boot that stays open, and counts as no. */
export async function kvmFinding(config: CliConfig, qemu: boolean): Promise<Finding & { remedy?: string }> {
  if (!qemu) return { usable: false, why: 'it cannot be tried without QEMU' };
  const images = readImages(config.cacheDir);
  if (images === undefined) return { usable: false, why: 'it cannot be tried before `torpor setup` built a kernel' };
  const boot = { kernel: images.kernel.path, initramfs: images.initramfs.path, cmdline: images.cmdline };
  const root = process.getuid?.() === 0;
  const asVmUser = root && findUser(config.vmUser) !== undefined ? { vmUser: config.vmUser } : {};
  const { usable, reason, remedy } = await probeKvm(new ChildProcessExec(), boot, asVmUser);
  return { usable, why: reason, ...(remedy === undefined ? {} : { remedy }) };
}
