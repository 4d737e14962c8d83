import { type Finding, type MachineFindings } from './driver-choice.js';
import type { HostConfig } from './config.js';
import {
  cloudHypervisorTestGuest,
  type FoundCloudHypervisor,
  probeCloudHypervisor,
} from './drivers/cloud-hypervisor/cloud-hypervisor-probe.js';
import { probeDmSnapshot } from './drivers/dm-snapshot/dm-snapshot-probe.js';
import type { NetnsNetwork } from './drivers/netns/netns-network.driver.js';
import { qemuTestGuest } from './drivers/qemu/kvm-probe.js';
import { knownKvm } from './drivers/qemu/known-kvm.js';
import { qemuBinary } from './drivers/qemu/machine.js';
import type { Exec } from './exec.js';
import type { FileImageCatalogue } from './image-catalogue.js';

const NOT_TRIED: Finding = { usable: false, why: 'it was not tried, as something else was asked for' };

/** What a worker that starts finds out about its machine: only what the choice of drivers can depend on. */
export async function findOut(
  config: HostConfig,
  exec: Exec,
  images: FileImageCatalogue,
  network: NetnsNetwork,
): Promise<MachineFindings & { cloudHypervisor: FoundCloudHypervisor }> {
  const { hypervisor, disk } = config.wishes;
  const cloudHypervisor = hypervisor === 'qemu' ? NOT_TRIED : await probeCloudHypervisor(exec, config.cloudHypervisor);
  const qemu = await versionOf(exec, qemuBinary());
  const qemuImg = await versionOf(exec, 'qemu-img');
  // A snapshot device takes a moment to make; where qcow2 is chosen anyway, nobody waits for it.
  const mayBeSnapshot = disk === 'dm-snapshot' || (disk === 'auto' && (cloudHypervisor.usable || !qemuImg.usable));
  return {
    cloudHypervisor,
    qemu,
    kvm: await kvm(config, exec, images, { cloudHypervisor, qemu }),
    dmSnapshot: mayBeSnapshot ? finding(await probeDmSnapshot(exec)) : NOT_TRIED,
    qemuImg,
    netns: await attempt(async () => {
      await network.ensureHostTable();
      return 'the rules of the host are in place';
    }),
    images: { usable: true, why: images.names.join(', ') },
  };
}

/** Tried with the VMM that would run the guests. */
async function kvm(
  { wishes, vmUser, runDir }: HostConfig,
  exec: Exec,
  { boot }: FileImageCatalogue,
  { cloudHypervisor, qemu }: { cloudHypervisor: FoundCloudHypervisor; qemu: Finding },
): Promise<Finding> {
  if (wishes.accel === 'tcg') return NOT_TRIED;
  const { binary } = cloudHypervisor;
  if (cloudHypervisor.usable && binary !== undefined) {
    const guest = cloudHypervisorTestGuest(binary, boot);
    return finding(await knownKvm(exec, guest, { vmUser, runDir, vmmVersion: cloudHypervisor.why }));
  }
  if (!qemu.usable) return { usable: false, why: 'there is no program to try it with' };
  return finding(await knownKvm(exec, await qemuTestGuest(boot), { vmUser, runDir, vmmVersion: qemu.why }));
}

function finding({ usable, reason }: { usable: boolean; reason: string }): Finding {
  return { usable, why: reason };
}

function versionOf(exec: Exec, program: string): Promise<Finding> {
  return attempt(async () => (await exec.run([program, '--version'])).stdout.split('\n')[0]?.trim() ?? '');
}

async function attempt(what: () => Promise<string>): Promise<Finding> {
  try {
    return { usable: true, why: await what() };
  } catch (err) {
    return { usable: false, why: err instanceof Error ? err.message : String(err) };
  }
}
