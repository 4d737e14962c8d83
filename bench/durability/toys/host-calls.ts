import { freezeAndSave } from '../../../activities/host/snapshot-steps.js';
import type { DiskAttachment, GuestRun, NetworkAttachment } from '../../../activities/host/ports.js';
import type { MachineDrivers } from '../../../host-worker/machine-drivers.js';
import { twice } from './toy.js';

const SIZE = { vcpus: 1, memoryMb: 128 };
const GUEST_READY_MS = 15_000;
const MAX_OUTPUT_BYTES = 4_096;

/**
 * The driver calls that both toys make, each tried twice, in the order of the product's own steps. The drivers are
 * the product's, which makes the toys better than what they stand for: every call may be repeated, finds what a dead
 * process left, and saves memory atomically.
 */
export class HostCalls {
  constructor(readonly ports: MachineDrivers['ports']) {}

  async makeNetworkAndDisk(id: string): Promise<void> {
    await twice(() => this.ports.network.ensure(id, { egress: false }));
    const base = await this.ports.images.rootfs('minimal');
    await twice(() => this.ports.disk.create(id, base));
  }

  async openNetworkAndDisk(id: string): Promise<void> {
    await twice(() => this.ports.network.ensure(id, { egress: false }));
    await twice(() => this.ports.disk.attach(id));
  }

  async start(id: string, memoryOf?: number): Promise<void> {
    const { hypervisor, snapshots } = this.ports;
    const { network, disk } = await this.#wiring(id);
    const memory = memoryOf === undefined ? {} : { memoryFile: await snapshots.memoryFile(id, memoryOf) };
    await twice(() => hypervisor.start(id, { ...SIZE, network, disk, ...memory }));
  }

  async initGuest(id: string, accessToken: string): Promise<void> {
    const { guest } = this.ports;
    const { network } = await this.#wiring(id);
    await twice(() => guest.waitReady(network.hostAddress, GUEST_READY_MS));
    const config = { accessToken, env: {}, templateId: 'minimal', user: 'user' };
    await twice(() => guest.init(network.hostAddress, id, config));
  }

  async saveMemory(id: string, generation: number): Promise<void> {
    const { guest, snapshots } = this.ports;
    const { network } = await this.#wiring(id);
    await twice(() => guest.quiesce(network.hostAddress));
    const signal = new AbortController().signal;
    await twice(() => snapshots.save(id, generation, (file) => freezeAndSave(this.ports, id, file, signal)));
  }

  /** After a pause that failed. */
  async letGoOn(id: string): Promise<void> {
    const { hypervisor, guest } = this.ports;
    const { network } = await this.#wiring(id);
    await hypervisor.unfreeze(id);
    await guest.unquiesce(network.hostAddress);
  }

  /** Behind a saved memory. */
  async release(id: string): Promise<void> {
    const { hypervisor, disk, network } = this.ports;
    await twice(() => hypervisor.kill(id));
    await twice(() => disk.detach(id));
    await twice(() => network.remove(id));
  }

  async forgetMemory(id: string, generation: number): Promise<void> {
    await twice(() => this.ports.disk.commit(id));
    await twice(() => this.ports.snapshots.delete(id, generation));
  }

  async undoResume(id: string): Promise<void> {
    await this.ports.hypervisor.kill(id);
    await this.ports.disk.rollback(id);
    await this.ports.network.remove(id);
  }

  async removeAll(id: string): Promise<void> {
    const { hypervisor, disk, network, snapshots } = this.ports;
    await twice(() => hypervisor.kill(id));
    await twice(() => disk.remove(id));
    await twice(() => network.remove(id));
    await twice(() => snapshots.deleteAll(id));
  }

  async exec(id: string, accessToken: string, command: string): Promise<GuestRun> {
    const { network } = await this.#wiring(id);
    return this.ports.guest.run(network.hostAddress, accessToken, command, MAX_OUTPUT_BYTES);
  }

  async #wiring(id: string): Promise<{ network: NetworkAttachment; disk: DiskAttachment }> {
    const [network, disk] = await Promise.all([this.ports.network.find(id), this.ports.disk.find(id)]);
    if (network === undefined || disk === undefined) throw new Error(`${id} has no network or no disk`);
    return { network, disk };
  }
}
