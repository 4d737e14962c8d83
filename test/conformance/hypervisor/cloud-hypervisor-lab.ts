import { chmod, chown, stat } from 'node:fs/promises';
import { readConfig } from '../../../host-worker/config.js';
import { CloudHypervisor } from '../../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor.driver.js';
import { probeCloudHypervisor } from '../../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor-probe.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { HypervisorLab } from './hypervisor-lab.js';

const USERFAULTFD = '/dev/userfaultfd';

export interface Warning {
  message: string;
  fields: Record<string, unknown>;
}

/** The binary, where there is one and the user of VMs may open /dev/kvm; undefined where this cannot be run for real. */
export async function findCloudHypervisor(): Promise<string | undefined> {
  const exec = new ChildProcessExec();
  const { usable, binary } = await probeCloudHypervisor(exec, readConfig().cloudHypervisor);
  const device = await stat('/dev/kvm').catch(() => undefined);
  const open = device !== undefined && device.gid !== 0 && (device.mode & 0o060) === 0o060;
  return usable && open && process.getuid?.() === 0 ? binary : undefined;
}

/** Real VMs; what the driver warns of is kept. */
export async function openCloudHypervisorLab(
  id: string,
  binary: string,
  options: { eager?: boolean } = {},
): Promise<HypervisorLab<CloudHypervisor> & { warnings: Warning[] }> {
  const warnings: Warning[] = [];
  const warn = (fields: Record<string, unknown>, message: string): void => void warnings.push({ message, fields });
  const lab = await HypervisorLab.open(id, (surroundings) =>
    CloudHypervisor.open({ ...surroundings, ...options, binary, warn }),
  );
  return Object.assign(lab, { warnings });
}

/** As the installation does it: whoever may open /dev/kvm may handle page faults of guests. Returns how to take that back. */
export async function allowOnDemand(): Promise<() => Promise<void>> {
  const [before, kvm] = await Promise.all([stat(USERFAULTFD), stat('/dev/kvm')]);
  await chown(USERFAULTFD, 0, kvm.gid);
  await chmod(USERFAULTFD, 0o660);
  return async () => {
    await chown(USERFAULTFD, before.uid, before.gid);
    await chmod(USERFAULTFD, before.mode & 0o777);
  };
}
