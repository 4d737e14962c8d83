import type { Logger } from 'pino';
import type { HostPorts } from '../activities/host/ports.js';
import { DomainError } from '../workflows/contract/errors.js';
import { FileBuildStore } from './build-store.js';
import type { HostConfig } from './config.js';
import { chooseDrivers, type DriverChoice, type Finding, type Port } from './driver-choice.js';
import { EnvdGuest } from './drivers/envd/envd-guest.driver.js';
import { NetnsNetwork } from './drivers/netns/netns-network.driver.js';
import { Qcow2Disk } from './drivers/qcow2/qcow2-disk.driver.js';
import { knownKvm } from './drivers/qemu/known-kvm.js';
import { qemuBinary } from './drivers/qemu/machine.js';
import { QemuHypervisor } from './drivers/qemu/qemu-hypervisor.driver.js';
import { ChildProcessExec, type Exec } from './exec.js';
import { hostTag } from './host-tag.js';
import { FileImageCatalogue } from './image-catalogue.js';
import { FileSnapshotStore } from './snapshot-store.js';

/** The ports that the machine itself provides; journal and control plane come with the host's identity. */
export interface MachineDrivers {
  ports: Omit<HostPorts, 'journal' | 'controlPlane'>;
  images: FileImageCatalogue;
  /** Cuts what guests have printed; the hypervisor's own upkeep, which no step asks for. */
  trimConsoles: () => Promise<void>;
  /** Driver names, as the control plane is told. */
  names: { hypervisor: string; disk: string; network: string };
}

/** Tries what this machine offers and opens the drivers for it. Throws, naming the port, when one cannot work. */
export async function openDrivers(config: HostConfig, log: Logger): Promise<MachineDrivers> {
  const exec = new ChildProcessExec();
  const { dataDir, runDir, vmUser } = config;
  const images = await FileImageCatalogue.open(config.images);
  const warn = (fields: Record<string, unknown>, message: string) => log.warn(fields, message);
  const network = new NetnsNetwork({ cidr: config.networkCidr, hostTag: await hostTag(dataDir), vmUser, exec, warn });
  const choices = await choose(config, exec, images, network);
  for (const { port, driver, why } of choices) log.info({ port, driver, why }, 'driver chosen');

  const accel = pick(choices, 'hypervisor').accel ?? 'tcg';
  const hypervisor = await QemuHypervisor.open({ exec, dataDir, runDir, boot: images.boot, accel, vmUser, warn });
  const stores = { dataDir, hypervisor: hypervisor.identity };
  return {
    ports: {
      hypervisor,
      network,
      images,
      disk: new Qcow2Disk({ dataDir, exec }),
      guest: new EnvdGuest(),
      snapshots: new FileSnapshotStore(stores),
      builds: new FileBuildStore(stores),
    },
    images,
    trimConsoles: () => hypervisor.trimConsoles(),
    names: {
      hypervisor: `${pick(choices, 'hypervisor').driver}/${accel}`,
      disk: pick(choices, 'disk').driver,
      network: pick(choices, 'network').driver,
    },
  };
}

async function choose(
  { hypervisor, accel, vmUser, runDir }: HostConfig,
  exec: Exec,
  images: FileImageCatalogue,
  network: NetnsNetwork,
): Promise<DriverChoice[]> {
  const qemu = await finding(async () => firstLine((await exec.run([qemuBinary(), '--version'])).stdout));
  // What was not asked for, and what cannot run anyway, is not worth the time a probe may take.
  const tried =
    accel === 'tcg' || !qemu.usable
      ? undefined
      : await knownKvm(exec, images.boot, { vmUser, runDir, qemuVersion: qemu.why });
  return chooseDrivers(
    {
      qemu,
      kvm: tried ? { usable: tried.usable, why: tried.reason } : { usable: false, why: 'it was not tried' },
      qemuImg: await finding(async () => firstLine((await exec.run(['qemu-img', '--version'])).stdout)),
      netns: await finding(async () => {
        await network.ensureHostTable();
        return 'the rules of the host are in place';
      }),
      images: { usable: true, why: images.names.join(', ') },
    },
    { hypervisor, accel },
  );
}

async function finding(attempt: () => Promise<string>): Promise<Finding> {
  try {
    return { usable: true, why: await attempt() };
  } catch (err) {
    return { usable: false, why: err instanceof Error ? err.message : String(err) };
  }
}

function pick(choices: DriverChoice[], port: Port): DriverChoice & { driver: string } {
  const choice = choices.find((each) => each.port === port);
  if (choice?.driver === undefined) {
    throw new DomainError(
      'unsupported',
      `this machine cannot serve the ${port} port: ${choice?.why ?? 'no driver'}; see \`torpor doctor\``,
    );
  }
  return { ...choice, driver: choice.driver };
}

function firstLine(text: string): string {
  return text.split('\n')[0]?.trim() ?? '';
}
