import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { imagesFile } from '../../cli/platform/guest-image.js';
import { readConfig } from '../../host-worker/config.js';
import { CloudHypervisor } from '../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor.driver.js';
import { probeCloudHypervisor } from '../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor-probe.js';
import { DmSnapshotDisk } from '../../host-worker/drivers/dm-snapshot/dm-snapshot-disk.driver.js';
import { NetnsNetwork } from '../../host-worker/drivers/netns/netns-network.driver.js';
import { ChildProcessExec } from '../../host-worker/exec.js';
import { FileImageCatalogue } from '../../host-worker/image-catalogue.js';
import { BareSide } from './bare-side.js';
import { DriverSide } from './driver-side.js';
import type { VmShape } from './vm-life.js';

const POOL_SIZE = 4;
const IMAGE = 'minimal';

/** The production drivers and the bare tools beside each other, in a directory of their own. */
export class BenchMachine {
  private constructor(
    readonly directory: string,
    readonly drivers: DriverSide,
    readonly bare: BareSide,
    /** Networks made ahead, and made when they are asked for. */
    readonly pooled: NetnsNetwork,
    readonly built: NetnsNetwork,
  ) {}

  /** Throws, saying what is missing, where Cloud Hypervisor or device-mapper cannot be used. */
  static async open(cacheDir: string, shape: VmShape): Promise<BenchMachine> {
    const { vmUser, cloudHypervisor } = readConfig();
    const exec = new ChildProcessExec();
    const { binary, why } = await probeCloudHypervisor(exec, cloudHypervisor);
    if (binary === undefined) throw new Error(`the production drivers cannot be measured here: ${why}`);
    const images = await FileImageCatalogue.open(imagesFile(cacheDir));
    // Not below the default temporary directory, which may be in memory.
    const directory = await mkdtemp('/var/tmp/torpor-bench-');
    await chmod(directory, 0o711);
    const [dataDir, runDir] = [join(directory, 'data'), join(directory, 'run')];
    for (const path of [dataDir, runDir]) await mkdir(path, { mode: 0o711 });
    const common = { exec, dataDir, runDir, boot: images.boot, vmUser, binary };
    const onDemand = await CloudHypervisor.open(common);
    const eager = await CloudHypervisor.open({ ...common, eager: true });
    const hostTag = `b${process.pid}`;
    const disk = await DmSnapshotDisk.open({ exec, dataDir, hostTag });
    const network = (tag: string, cidr: string, poolSize: number) =>
      new NetnsNetwork({ cidr, hostTag: tag, vmUser, exec, poolSize, slotsDir: join(directory, tag) });
    const built = network(hostTag, '10.98.1.0/24', 0);
    const pooled = network(`p${process.pid}`, '10.98.2.0/24', POOL_SIZE);
    for (const each of [built, pooled]) await each.ensureHostTable();
    const base = await images.rootfs(IMAGE);
    const hypervisor = { eager, onDemand };
    const drivers = new DriverSide({ id: 'bench', runDir, base, shape, network: built, disk, hypervisor });
    const bare = { directory, base: base.path, binary, boot: images.boot, shape };
    return new BenchMachine(directory, drivers, new BareSide(bare), pooled, built);
  }

  async close(): Promise<void> {
    await this.drivers.clear();
    await this.bare.clear();
    for (const network of [this.pooled, this.built]) await network.removeHostTableIfUnused();
    await rm(this.directory, { recursive: true, force: true });
  }
}
