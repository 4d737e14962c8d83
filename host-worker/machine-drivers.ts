import type { Logger } from 'pino';
import type { Disk, HostPorts, Hypervisor } from '../activities/host/ports.js';
import { DomainError } from '../workflows/contract/errors.js';
import { FileBuildStore } from './build-store.js';
import type { HostConfig } from './config.js';
import { chooseDrivers, type DriverChoice, type Port } from './driver-choice.js';
import { DriverRecord } from './driver-record.js';
import { CloudHypervisor } from './drivers/cloud-hypervisor/cloud-hypervisor.driver.js';
import { DmSnapshotDisk } from './drivers/dm-snapshot/dm-snapshot-disk.driver.js';
import { EnvdGuest } from './drivers/envd/envd-guest.driver.js';
import { NetnsNetwork } from './drivers/netns/netns-network.driver.js';
import { Qcow2Disk } from './drivers/qcow2/qcow2-disk.driver.js';
import { QemuHypervisor } from './drivers/qemu/qemu-hypervisor.driver.js';
import { requireCgroupParent } from './drivers/vmm/cgroup-parent-probe.js';
import { ChildProcessExec, type Exec } from './exec.js';
import { hostTag } from './host-tag.js';
import { FileImageCatalogue } from './image-catalogue.js';
import { findOut } from './machine-findings.js';
import { FileSnapshotStore } from './snapshot-store.js';
import type { UpkeepTask } from './upkeep.js';

/** The ports that the machine itself provides; journal and control plane come with the host's identity. */
export interface MachineDrivers {
  ports: Omit<HostPorts, 'journal' | 'controlPlane'>;
  images: FileImageCatalogue;
  /** What has to be done now and then, and no step asks for. */
  upkeep: UpkeepTask[];
  /** Gives back what is only kept ready; VMs and all that is theirs go on. */
  close: () => Promise<void>;
  /** Driver names, as the control plane is told. */
  names: { hypervisor: string; disk: string; network: string };
}

/** What every driver of a VMM or a disk is opened with. */
interface Surroundings {
  config: HostConfig;
  exec: Exec;
  images: FileImageCatalogue;
  tag: string;
  warn: (fields: Record<string, unknown>, message: string) => void;
}

/** Tries what this machine offers and opens the drivers for it. Throws, naming the port, when one cannot work. */
export async function openDrivers(config: HostConfig, log: Logger): Promise<MachineDrivers> {
  const exec = new ChildProcessExec();
  const { dataDir } = config;
  if (config.vmCgroup.required) await requireCgroupParent(config.vmCgroup.path);
  const images = await FileImageCatalogue.open(config.images);
  const surroundings: Surroundings = {
    ...{ config, exec, images, tag: await hostTag(dataDir) },
    warn: (fields, message) => log.warn(fields, message),
  };
  const network = openNetwork(surroundings);
  const record = new DriverRecord(dataDir);
  const wishes = await record.settle(config.wishes);
  const findings = await findOut({ ...config, wishes }, exec, images, network);
  const choices = chooseDrivers(findings, wishes);
  for (const { port, driver, why } of choices) log.info({ port, driver, why }, 'driver chosen');

  const chosen = {
    hypervisor: pick(choices, 'hypervisor'),
    disk: pick(choices, 'disk'),
    network: pick(choices, 'network'),
  };
  pick(choices, 'guest');
  const { hypervisor, upkeep } = await openHypervisor(chosen.hypervisor, surroundings, findings.cloudHypervisor.binary);
  const disk = await openDisk(chosen.disk, surroundings);
  await record.write(chosen.hypervisor.driver, chosen.disk.driver);
  const stores = { dataDir, hypervisor: hypervisor.identity };
  return {
    ports: {
      ...{ hypervisor, network, images, disk: disk.disk, guest: new EnvdGuest() },
      snapshots: new FileSnapshotStore(stores),
      builds: new FileBuildStore(stores),
    },
    images,
    upkeep: [...upkeep, ...disk.upkeep],
    close: () => network.close(),
    names: {
      hypervisor: nameOf(chosen.hypervisor),
      disk: chosen.disk.driver,
      network: chosen.network.driver,
    },
  };
}

function openNetwork({ config, exec, tag, warn }: Surroundings): NetnsNetwork {
  const { networkCidr: cidr, networkPoolSize: poolSize, vmUser, txMegabitsPerSecond } = config;
  return new NetnsNetwork({ cidr, hostTag: tag, vmUser, exec, warn, poolSize, txMegabitsPerSecond });
}

async function openHypervisor(
  { driver, accel }: DriverChoice,
  { config, exec, images, warn }: Surroundings,
  binary: string | undefined,
): Promise<{ hypervisor: Hypervisor; upkeep: UpkeepTask[] }> {
  const { dataDir, runDir, vmUser } = config;
  const common = { exec, dataDir, runDir, boot: images.boot, vmUser, vmCgroup: config.vmCgroup.path, warn };
  const hypervisor =
    driver === 'cloud-hypervisor'
      ? await CloudHypervisor.open({ ...common, binary })
      : await QemuHypervisor.open({ ...common, accel: accel ?? 'tcg' });
  return { hypervisor, upkeep: [{ name: 'consoles', run: () => hypervisor.trimConsoles() }] };
}

async function openDisk(
  { driver }: DriverChoice,
  { config, exec, tag, warn }: Surroundings,
): Promise<{ disk: Disk; upkeep: UpkeepTask[] }> {
  const { dataDir, cow } = config;
  if (driver !== 'dm-snapshot') return { disk: new Qcow2Disk({ dataDir, exec }), upkeep: [] };
  const disk = await DmSnapshotDisk.open({ exec, dataDir, hostTag: tag, policy: cow, warn });
  const watch = async () => {
    await disk.watchUsage();
  };
  return { disk, upkeep: [{ name: 'usage of copy-on-write files', run: watch }] };
}

/** Cloud Hypervisor has one way to run guest code. */
function nameOf({ driver, accel }: DriverChoice & { driver: string }): string {
  return driver === 'qemu' && accel !== undefined ? `${driver}/${accel}` : driver;
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
