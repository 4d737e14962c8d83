import { access, chmod, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Disk, Hypervisor, VmSpec } from '../../../activities/host/ports.js';
import { readConfig } from '../../../cli/config.js';
import { imagesFile } from '../../../cli/platform/guest-image.js';
import { NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import { Qcow2Disk } from '../../../host-worker/drivers/qcow2/qcow2-disk.driver.js';
import type { GuestBoot } from '../../../host-worker/drivers/qemu/machine.js';
import { findByArgument } from '../../../host-worker/drivers/vmm/vm-process.js';
import { ChildProcessExec, type Exec } from '../../../host-worker/exec.js';
import { FileImageCatalogue } from '../../../host-worker/image-catalogue.js';
import { namesIn } from '../../../host-worker/sandbox-folder.js';
import { REAL_FILES } from '../harness-files.js';
import { guestOverHttp } from './guest-over-http.js';
import type { GuestView, HypervisorHarness } from './hypervisor.conformance.js';

/** Exists everywhere; the platform's own user may not have been made yet. */
export const VM_USER = 'nobody';

/** What every driver of a VMM is opened with. */
export interface DriverSurroundings {
  exec: Exec;
  dataDir: string;
  runDir: string;
  boot: GuestBoot;
  vmUser: string;
}

export type OpenDriver<H extends Hypervisor> = (surroundings: DriverSurroundings) => Promise<H>;

/** Real drivers on directories of their own, with a disk and a network for one VM. */
export class HypervisorLab<H extends Hypervisor> {
  readonly exec = new ChildProcessExec();
  #paths = 0;

  private constructor(
    readonly id: string,
    readonly dir: string,
    readonly runDir: string,
    readonly images: FileImageCatalogue,
    readonly network: NetnsNetwork,
    readonly disk: Disk,
    private readonly openDriver: OpenDriver<H>,
    private readonly vmUser: string,
  ) {}

  static async open<H extends Hypervisor>(
    id: string,
    openDriver: OpenDriver<H>,
    vmUser = VM_USER,
  ): Promise<HypervisorLab<H>> {
    const images = await FileImageCatalogue.open(imagesFile(readConfig().cacheDir));
    const exec = new ChildProcessExec();
    // Not below the default temporary directory, which may be in memory.
    const dir = await mkdtemp('/var/tmp/torpor-vms-');
    await chmod(dir, 0o711);
    const runDir = await mkdtemp('/run/torpor-vms-');
    await chmod(runDir, 0o711);
    const network = new NetnsNetwork({
      cidr: '10.99.0.0/24',
      hostTag: id,
      vmUser,
      exec,
      slotsDir: join(dir, 'slots'),
    });
    await network.ensureHostTable();
    return new HypervisorLab(
      id,
      dir,
      runDir,
      images,
      network,
      new Qcow2Disk({ dataDir: dir, exec }),
      openDriver,
      vmUser,
    );
  }

  /** The version is asked for with the whole machine's tools; `exec` runs what comes after that. */
  async hypervisor(later: Exec = this.exec, boot: GuestBoot = this.images.boot): Promise<H> {
    const { dir, runDir, vmUser } = this;
    let opened = false;
    const exec: Exec = {
      run: (...args) => (opened ? later : this.exec).run(...args),
      spawnDetached: (...args) => later.spawnDetached(...args),
    };
    const hypervisor = await this.openDriver({ exec, dataDir: dir, runDir, boot, vmUser });
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

  async spec(memoryMb = 256, id = this.id): Promise<VmSpec> {
    const network = await this.network.ensure(id, { egress: false });
    const disk = await this.disk.create(id, await this.images.rootfs('minimal'));
    return { vcpus: 1, memoryMb, disk, network };
  }

  /** With a raw disk of the same content; the file is sparse. */
  async rawSpec(memoryMb = 256): Promise<VmSpec> {
    const spec = await this.spec(memoryMb);
    const path = join(this.dir, 'sandboxes', this.id, 'disk.raw');
    await this.exec.run(['qemu-img', 'convert', '-O', 'raw', spec.disk.path, path], { timeoutMs: 600_000 });
    return { ...spec, disk: { path, format: 'raw' } };
  }

  /** One of several VMs of this lab; the same one for the same index. */
  async vm(index: number, memoryMb: number): Promise<{ id: string; spec: VmSpec; guest: GuestView }> {
    const id = index === 0 ? this.id : `${this.id}n${index}`;
    const spec = await this.spec(memoryMb, id);
    return { id, spec, guest: guestOverHttp(spec.network.hostAddress) };
  }

  /** For the suite of the port, on this lab's first VM; the lab ends with it. */
  async harness(memoryMb?: number): Promise<HypervisorHarness> {
    const spec = await this.spec(memoryMb);
    return {
      hypervisor: await this.hypervisor(),
      id: this.id,
      spec,
      guest: guestOverHttp(spec.network.hostAddress),
      files: REAL_FILES,
      leastMemoryBytes: 1_000_000,
      restarted: () => this.hypervisor(),
      newPath: () => this.newPath(),
      leftovers: () => this.leftovers(),
      dispose: () => this.close(),
    };
  }

  newPath(): string {
    return join(this.dir, `file${(this.#paths += 1)}`);
  }

  async leftovers(id = this.id): Promise<string[]> {
    const processes = await findByArgument(`${join(this.runDir, 'vms', id)}/`);
    const groups = ['', '/memory', '/pids'].map((hierarchy) => `/sys/fs/cgroup${hierarchy}/torpor/${id}`);
    const files = [join(this.runDir, 'vms', id), join(this.dir, 'sandboxes', id, 'vm')];
    const left = await Promise.all([...groups, ...files].map(async (path) => ((await exists(path)) ? [path] : [])));
    return [...processes.map(({ pid }) => `process ${pid}`), ...left.flat()];
  }

  async close(): Promise<void> {
    for (const id of await this.network.list()) await this.network.remove(id);
    await this.network.removeHostTableIfUnused();
    expectEmpty(await namesIn(join(this.runDir, 'vms')));
    await rm(this.runDir, { recursive: true });
    await rm(this.dir, { recursive: true });
  }
}

function expectEmpty(names: string[]): void {
  if (names.length > 0) throw new Error(`these VMs were left: ${names.join(', ')}`);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
