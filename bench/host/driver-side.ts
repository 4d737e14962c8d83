import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskBase, Disk, Hypervisor, Network, NetworkAttachment } from '../../activities/host/ports.js';
import type { HostSide, VmShape } from './vm-life.js';

export interface DriverParts {
  id: string;
  runDir: string;
  base: DiskBase;
  shape: VmShape;
  network: Network;
  disk: Disk;
  /** The same driver twice: saved memory read whole, and loaded on demand. */
  hypervisor: { eager: Hypervisor; onDemand: Hypervisor };
}

/** The calls of the ports, as the steps of the host worker make them. */
export class DriverSide implements HostSide {
  #network: NetworkAttachment | undefined;
  #memoryFile: string | undefined;

  constructor(private readonly parts: DriverParts) {}

  async networkUp(): Promise<string> {
    const { id, network } = this.parts;
    this.#network = await network.ensure(id, { egress: false });
    return this.#network.hostAddress;
  }

  async networkDown(): Promise<void> {
    await this.parts.network.remove(this.parts.id);
  }

  async attachDisk(): Promise<void> {
    const { id, disk, base } = this.parts;
    await disk.create(id, base);
  }

  async detachDisk(): Promise<void> {
    await this.parts.disk.detach(this.parts.id);
  }

  startCold(): Promise<void> {
    return this.#start(this.parts.hypervisor.onDemand);
  }

  async freeze(): Promise<void> {
    await this.parts.hypervisor.onDemand.freeze(this.parts.id);
  }

  async snapshot(directory: string): Promise<void> {
    await this.parts.hypervisor.onDemand.save(this.parts.id, directory);
  }

  async kill(): Promise<void> {
    await this.parts.hypervisor.onDemand.kill(this.parts.id);
  }

  async restore(directory: string, mode: 'eager' | 'on demand'): Promise<void> {
    this.#memoryFile = directory;
    await this.#start(mode === 'eager' ? this.parts.hypervisor.eager : this.parts.hypervisor.onDemand);
  }

  async loaded(): Promise<void> {
    await this.parts.hypervisor.onDemand.awaitMemory(this.parts.id);
  }

  async pid(): Promise<number> {
    const record = join(this.parts.runDir, 'vms', this.parts.id, 'vm.json');
    return (JSON.parse(await readFile(record, 'utf8')) as { process: { pid: number } }).process.pid;
  }

  /** After a life, also one that was cut short. */
  async clear(): Promise<void> {
    const { id, disk, network, hypervisor } = this.parts;
    await hypervisor.onDemand.kill(id);
    await disk.remove(id);
    await network.remove(id);
    this.#memoryFile = undefined;
  }

  async #start(hypervisor: Hypervisor): Promise<void> {
    const { id, disk, shape } = this.parts;
    const attached = await disk.find(id);
    if (attached === undefined || this.#network === undefined) throw new Error(`${id} has no disk or no network`);
    const memory = this.#memoryFile === undefined ? {} : { memoryFile: this.#memoryFile };
    await hypervisor.start(id, { ...shape, disk: attached, network: this.#network, ...memory });
  }
}
