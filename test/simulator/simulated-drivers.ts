import type { Logger } from 'pino';
import { FileBuildStore } from '../../host-worker/build-store.js';
import type { HostConfig } from '../../host-worker/config.js';
import { EnvdGuest } from '../../host-worker/drivers/envd/envd-guest.driver.js';
import { NetnsNetwork } from '../../host-worker/drivers/netns/netns-network.driver.js';
import { Qcow2Disk } from '../../host-worker/drivers/qcow2/qcow2-disk.driver.js';
import { ChildProcessExec } from '../../host-worker/exec.js';
import { hostTag } from '../../host-worker/host-tag.js';
import type { MachineDrivers } from '../../host-worker/machine-drivers.js';
import { FileSnapshotStore } from '../../host-worker/snapshot-store.js';
import { ensureSimulatedVmm } from './build.js';
import { withFaults } from './hypervisor-faults.js';
import { SimulatedHypervisor, type SimulatedTimes } from './simulated-hypervisor.js';
import { openSimulatedImages } from './simulated-images.js';

export interface SimulatedDriverOptions {
  /** File in which every VMM writes down its start and its end; see vmm-ledger.ts. */
  ledger: string;
  /** File that is read before each call of the hypervisor; see hypervisor-faults.ts. */
  faults?: string;
  times?: SimulatedTimes;
  /** A VMM that is compiled already. */
  binary?: string;
}

/** The drivers of the product, with a simulated VMM in the place of QEMU and an image of its own. Needs root. */
export async function openSimulatedDrivers(
  config: HostConfig,
  log: Logger,
  options: SimulatedDriverOptions,
): Promise<MachineDrivers> {
  const { dataDir, runDir, vmUser, networkCidr: cidr, networkPoolSize: poolSize } = config;
  const { ledger, faults, times = {} } = options;
  const exec = new ChildProcessExec();
  const network = new NetnsNetwork({ cidr, hostTag: await hostTag(dataDir), vmUser, exec, poolSize });
  await network.ensureHostTable();
  const binary = options.binary ?? (await ensureSimulatedVmm());
  const warn = (fields: Record<string, unknown>, message: string) => log.warn(fields, message);
  const simulated = new SimulatedHypervisor({ exec, dataDir, runDir, binary, ledger, times, warn });
  const images = await openSimulatedImages(dataDir);
  const stores = { dataDir, hypervisor: simulated.identity };
  return {
    ports: {
      hypervisor: faults === undefined ? simulated : withFaults(simulated, faults),
      network,
      images,
      disk: new Qcow2Disk({ dataDir, exec }),
      guest: new EnvdGuest(),
      snapshots: new FileSnapshotStore(stores),
      builds: new FileBuildStore(stores),
    },
    images,
    upkeep: [{ name: 'consoles', run: () => simulated.trimConsoles() }],
    close: () => network.close(),
    names: { hypervisor: 'simulated', disk: 'qcow2', network: 'netns' },
  };
}
