import { access, chmod, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { VmSpec } from '../../../activities/host/ports.js';
import { readConfig } from '../../../cli/config.js';
import { imagesFile } from '../../../cli/platform/guest-image.js';
import { NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import { Qcow2Disk } from '../../../host-worker/drivers/qcow2/qcow2-disk.driver.js';
import { QemuHypervisor } from '../../../host-worker/drivers/qemu/qemu-hypervisor.driver.js';
import { findByArgument } from '../../../host-worker/drivers/vmm/vm-process.js';
import { ChildProcessExec, type Exec } from '../../../host-worker/exec.js';
import { FileImageCatalogue } from '../../../host-worker/image-catalogue.js';
import { namesIn } from '../../../host-worker/sandbox-folder.js';

/** Exists everywhere; the platform's own user may not have been made yet. */
const USER = 'nobody';

/** Real drivers on directories of their own, with a disk and a network for one VM. */
export class QemuLab {
  readonly exec = new ChildProcessExec();
  #paths = 0;

  private constructor(
    readonly id: string,
    readonly dir: string,
    readonly runDir: string,
    readonly images: FileImageCatalogue,
    readonly network: NetnsNetwork,
    readonly disk: Qcow2Disk,
  ) {}

  static async open(id: string): Promise<QemuLab> {
    const images = await FileImageCatalogue.open(imagesFile(readConfig().cacheDir));
    const exec = new ChildProcessExec();
    // Not below the default temporary directory, which may be in memory.
    const dir = await mkdtemp('/var/tmp/torpor-qemu-');
    await chmod(dir, 0o711);
    const runDir = await mkdtemp('/run/torpor-qemu-');
    await chmod(runDir, 0o711);
    const network = new NetnsNetwork({
      cidr: '10.99.0.0/24',
      hostTag: id,
      vmUser: USER,
      exec,
      slotsDir: join(dir, 'slots'),
    });
    await network.ensureHostTable();
    return new QemuLab(id, dir, runDir, images, network, new Qcow2Disk({ dataDir: dir, exec }));
  }

  /** The version is asked for with the whole machine's tools; `exec` runs what comes after that. */
  async hypervisor(later: Exec = this.exec): Promise<QemuHypervisor> {
    const { dir, runDir, images } = this;
    let opened = false;
    const exec: Exec = {
      run: (...args) => (opened ? later : this.exec).run(...args),
      spawnDetached: (...args) => later.spawnDetached(...args),
    };
    const hypervisor = await this.#open(exec, dir, runDir, images);
    opened = true;
    return hypervisor;
  }

  /** A directory to search in which there are just these commands. */
  async directoryOf(commands: string[]): Promise<string> {
    const path = this.newPath();
    await mkdir(path, { mode: 0o755 });
    for (const command of commands) {
      await symlink((await this.exec.run(['which', command])).stdout.trim(), join(path, command));
    }
    return path;
  }

  #open(exec: Exec, dir: string, runDir: string, images: FileImageCatalogue): Promise<QemuHypervisor> {
    return QemuHypervisor.open({ exec, dataDir: dir, runDir, boot: images.boot, accel: 'tcg', vmUser: USER });
  }

  async spec(memoryMb = 256): Promise<VmSpec> {
    const network = await this.network.ensure(this.id, { egress: false });
    const disk = await this.disk.create(this.id, await this.images.rootfs('minimal'));
    return { vcpus: 1, memoryMb, disk, network };
  }

  newPath(): string {
    return join(this.dir, `file${(this.#paths += 1)}`);
  }

  async leftovers(): Promise<string[]> {
    const processes = await findByArgument(join(this.runDir, 'vms', this.id));
    const groups: string[] = [];
    for (const hierarchy of ['', '/memory', '/pids']) {
      const path = `/sys/fs/cgroup${hierarchy}/torpor/${this.id}`;
      await access(path).then(
        () => groups.push(path),
        () => undefined,
      );
    }
    return [...processes.map(({ pid }) => `process ${pid}`), ...groups, ...(await namesIn(join(this.runDir, 'vms')))];
  }

  async close(): Promise<void> {
    await this.network.remove(this.id);
    await this.network.removeHostTableIfUnused();
    await rm(this.runDir, { recursive: true });
    await rm(this.dir, { recursive: true });
  }
}
