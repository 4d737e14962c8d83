import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { freezeAndSave } from '../activities/host/snapshot-steps.js';
import type { DiskBase, GuestConfig, VmSpec } from '../activities/host/ports.js';
import { removeHostRules } from '../cli/platform/host-rules.js';
import { FileBuildStore } from '../host-worker/build-store.js';
import { readConfig } from '../host-worker/config.js';
import { openDrivers, type MachineDrivers } from '../host-worker/machine-drivers.js';

const GUEST_READY_MS = 120_000;
const GENERATION = 1;

export interface Size {
  vcpus: number;
  memoryMb: number;
}

/**
 * The baseline: the same driver calls in the same order as the steps of the host
 * worker, without REST, workflow, journal or database around them.
 */
export class DirectHost {
  private readonly token = randomBytes(16).toString('hex');

  private constructor(
    private readonly drivers: MachineDrivers,
    private readonly warm: { disk: DiskBase; memoryFile: string },
    private readonly size: Size,
    private readonly dataDir: string,
    private readonly runDir: string,
  ) {}

  /** `platformHost`: data directory of the platform beside it, whose published build it restores too. */
  static async open(
    directory: string,
    platformHost: string,
    images: string,
    buildId: string,
    size: Size,
  ): Promise<DirectHost> {
    const dataDir = join(directory, 'direct');
    const runDir = join('/run', `torpor-bench-${process.pid}`);
    await mkdir(dataDir, { recursive: true, mode: 0o711 });
    await mkdir(runDir, { recursive: true, mode: 0o711 });
    const config = readConfig({
      ...{ TORPOR_DATA_DIR: dataDir, TORPOR_RUN_DIR: runDir, TORPOR_IMAGES: images },
      TORPOR_NETWORK_CIDR: '10.97.0.0/16',
    });
    const drivers = await openDrivers(config, pino({ level: 'warn' }));
    const builds = new FileBuildStore({ dataDir: platformHost, hypervisor: drivers.ports.hypervisor.identity });
    const { disk } = await builds.find(buildId);
    const warm = { disk, memoryFile: await builds.memoryFile(buildId) };
    return new DirectHost(drivers, warm, size, dataDir, runDir);
  }

  async create(id: string, { cold = false } = {}): Promise<void> {
    const { network, disk } = this.drivers.ports;
    const [net, overlay] = await Promise.all([network.ensure(id, { egress: true }), disk.create(id, this.warm.disk)]);
    const spec: VmSpec = { ...this.size, network: net, disk: overlay };
    await this.start(id, cold ? spec : { ...spec, memoryFile: this.warm.memoryFile });
  }

  async pause(id: string): Promise<void> {
    const { guest, snapshots, hypervisor, disk, network } = this.drivers.ports;
    await guest.quiesce(await this.address(id));
    const signal = new AbortController().signal;
    await snapshots.save(id, GENERATION, (file) => freezeAndSave(this.drivers.ports, id, file, signal));
    await hypervisor.kill(id);
    await disk.detach(id);
    await network.remove(id);
  }

  async resume(id: string): Promise<void> {
    const { network, disk, snapshots } = this.drivers.ports;
    const [net, overlay] = await Promise.all([network.ensure(id, { egress: true }), disk.attach(id)]);
    const memoryFile = await snapshots.memoryFile(id, GENERATION);
    await this.start(id, { ...this.size, network: net, disk: overlay, memoryFile });
  }

  /** What a resume does behind its commit point, where the caller has its answer already. */
  async afterResume(id: string): Promise<void> {
    await this.drivers.ports.disk.commit(id);
    await this.drivers.ports.snapshots.delete(id, GENERATION);
  }

  async exec(id: string, command: string): Promise<void> {
    await this.drivers.ports.guest.run(await this.address(id), this.token, command, 1024);
  }

  async destroy(id: string): Promise<void> {
    const { hypervisor, disk, network, snapshots } = this.drivers.ports;
    await hypervisor.kill(id);
    await disk.remove(id);
    await network.remove(id);
    await snapshots.deleteAll(id);
  }

  async close(): Promise<void> {
    for (const id of await this.drivers.ports.hypervisor.list()) await this.destroy(id);
    await removeHostRules(this.dataDir);
    for (const directory of [this.dataDir, this.runDir]) await rm(directory, { recursive: true, force: true });
  }

  private async start(id: string, spec: VmSpec): Promise<void> {
    const { hypervisor, guest } = this.drivers.ports;
    await hypervisor.start(id, spec);
    await guest.waitReady(spec.network.hostAddress, GUEST_READY_MS);
    const config: GuestConfig = { accessToken: this.token, env: {}, templateId: 'bench', user: 'user' };
    await guest.init(spec.network.hostAddress, id, config);
  }

  private async address(id: string): Promise<string> {
    const found = await this.drivers.ports.network.find(id);
    if (!found) throw new Error(`${id} has no network`);
    return found.hostAddress;
  }
}
