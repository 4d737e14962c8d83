import { requireCgroupParent } from '../../host-worker/drivers/vmm/cgroup-parent-probe.js';
import { fact, type Fact } from './machine-facts.js';
import type { KernelView } from './kernel-view.js';

const ROOT = '/sys/fs/cgroup';
const NEEDED = ['memory', 'pids'];
/** Where a service manager keeps a place for the VMs of this machine, as `torpor install` sets it up. */
const OUR_SLICE = `${ROOT}/torpor.slice`;

/** `parent` is what TORPOR_VM_CGROUP says. */
export async function cgroupFacts(kernel: KernelView, parent: string | undefined): Promise<Fact[]> {
  return [await hierarchy(kernel), parent === undefined ? await unnamed(kernel) : await named(parent)];
}

async function hierarchy(kernel: KernelView): Promise<Fact> {
  const controllers = (await kernel.read(`${ROOT}/cgroup.controllers`))?.split(' ');
  if (controllers === undefined) {
    const detail = 'version 1: each VM gets its limits, but no place that a service manager keeps its hands off';
    return fact(
      'cgroup',
      false,
      { ok: false, detail },
      "systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
    );
  }
  const lacking = NEEDED.filter((name) => !controllers.includes(name));
  const detail =
    lacking.length === 0 ? `version 2 with ${NEEDED.join(' and ')}` : `version 2 without ${lacking.join(', ')}`;
  const remedy = lacking.includes('memory')
    ? "cgroup_enable=memory on the kernel's command line"
    : 'use a kernel with CONFIG_CGROUP_PIDS';
  return fact('cgroup', false, { ok: lacking.length === 0, detail }, remedy);
}

async function named(parent: string): Promise<Fact> {
  const verdict = await requireCgroupParent(parent).then(
    () => ({ ok: true, detail: `${parent} (TORPOR_VM_CGROUP)` }),
    (error: Error) => ({ ok: false, detail: error.message }),
  );
  return fact('cgroup of VMs', true, verdict, 'systemctl start torpor-vms.service, or unset TORPOR_VM_CGROUP');
}

async function unnamed(kernel: KernelView): Promise<Fact> {
  const installed = (await kernel.mode(OUR_SLICE)) !== undefined;
  const detail = installed
    ? 'torpor.slice is there; the host worker of its unit puts VMs into it'
    : 'torpor, below the root: fine for `torpor up`';
  return fact('cgroup of VMs', false, { ok: true, detail }, '');
}
