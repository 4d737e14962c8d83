import { createHash } from 'node:crypto';
import type { BuildArtefact, SnapshotInfo } from '../../activities/host/contract.js';
import type {
  BuildStore,
  ControlPlane,
  Disk,
  DiskBase,
  Guest,
  GuestConfig,
  HostPorts,
  Hypervisor,
  ImageCatalogue,
  Network,
  NetworkAttachment,
  SnapshotStore,
} from '../../activities/host/ports.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeDisk, FakeMemory, FakeVm } from './fake-guest-state.js';
import { FakeJournal } from './fake-journal.js';
import { FaultPoints } from './fault-points.js';

type MethodNames<T> = { [K in keyof T]: T[K] extends (...args: never[]) => Promise<unknown> ? K : never }[keyof T];
/** `port.method` of every asynchronous method of the ports. */
export type PortMethod = { [P in keyof HostPorts]: `${P}.${MethodNames<HostPorts[P]> & string}` }[keyof HostPorts];

/**
 * One machine in memory: everything that a host's steps do can be looked at, made to
 * fail, delayed and held up. It outlives the worker that uses it, like a real one.
 *
 *   const host = new FakeHost();
 *   createHostActivities(host.ports);
 *   host.faults.fail('hypervisor.start', new Error('no'), { times: 2 });
 *   const block = host.faults.block('hypervisor.save'); await block.reached; block.release();
 *   expect(host.remaining()).toEqual([]);
 *   expect(host.violations).toEqual([]);
 */
export class FakeHost {
  readonly faults = new FaultPoints<PortMethod>();
  /** Every call in the order in which it began: `port.method id`. */
  readonly calls: { method: PortMethod; id: string }[] = [];
  /** Things that a real machine would have punished, such as a disk detached under its VM. */
  readonly violations: string[] = [];

  readonly vms = new Map<string, FakeVm>();
  readonly networks = new Map<string, NetworkAttachment & { egress: boolean }>();
  readonly disks = new Map<string, FakeDisk>();
  /** Saved memory by sandbox and generation. */
  readonly saved = new Map<string, Map<number, { info: SnapshotInfo; file: string }>>();
  readonly published = new Map<string, { artefact: BuildArtefact; disk: DiskBase; memoryFile: string }>();
  /** Memory files by path. */
  readonly files = new Map<string, FakeMemory>();
  readonly imageNames = new Set(['minimal']);
  /** What the control plane answers; every id gets a made-up one unless it is set here. */
  readonly configs = new Map<string, GuestConfig>();
  /** What each guest was told by `init`, in order. */
  readonly inits: { id: string; config: GuestConfig }[] = [];
  /** What set-up commands answer, by command; default is exit code 0 and no output. */
  readonly commandResults = new Map<string, { exitCode: number; output: string }>();
  readonly #journal = new FakeJournal();
  #boots = 0;
  #slots = 0;

  readonly ports: HostPorts = {
    hypervisor: this.#watched('hypervisor', this.#hypervisor()),
    disk: this.#watched('disk', this.#disk()),
    network: this.#watched('network', this.#network()),
    guest: this.#watched('guest', this.#guest()),
    snapshots: this.#watched('snapshots', this.#snapshots()),
    builds: this.#watched('builds', this.#builds()),
    images: this.#watched('images', this.#images()),
    controlPlane: this.#watched('controlPlane', this.#controlPlane()),
    journal: this.#watched('journal', this.#journal),
  };

  /**
   * Everything sandboxes have on this machine, as `kind id`, sorted; `[]` when nothing
   * is left. Published builds are listed with `{ builds: true }`: they outlive sandboxes.
   */
  remaining(options: { builds?: boolean } = {}): string[] {
    return [
      ...[...this.vms].map(([id, vm]) => `vm ${id} ${vm.status}`),
      ...[...this.networks.keys()].map((id) => `network ${id}`),
      ...[...this.disks.keys()].map((id) => `disk ${id}`),
      ...[...this.saved].flatMap(([id, generations]) => [...generations.keys()].map((n) => `snapshot ${id} ${n}`)),
      ...(options.builds ? [...this.published.keys()].map((id) => `build ${id}`) : []),
    ].sort();
  }

  /** Names of the methods called for one sandbox, in order. */
  methodsOf(id: string): PortMethod[] {
    return this.calls.filter((call) => call.id === id).map((call) => call.method);
  }

  /** The guest writes: to memory and to its disk. */
  write(id: string, note: string): void {
    const vm = this.#vm(id);
    if (vm.status !== 'running') throw new Error(`VM ${id} is ${vm.status}`);
    vm.memory.notes.push(note);
    this.#existing(this.disks, id, 'disk').content.push(note);
  }

  /** The VM's process dies. */
  crashVm(id: string): void {
    this.vms.delete(id);
  }

  /** The machine loses power: processes and networks are gone, files stay. */
  losePower(): void {
    this.vms.clear();
    this.networks.clear();
  }

  epochOf(id: string): { epoch: number; closed: boolean } | undefined {
    return this.#journal.epochOf(id);
  }

  #hypervisor(): Hypervisor {
    return {
      identity: { name: 'fake', version: '1', cpu: 'fake-cpu' },
      start: async (id, spec) => {
        if (this.vms.has(id)) return;
        if (!this.networks.has(id)) this.violations.push(`VM ${id} started without a network`);
        if (!this.disks.has(id)) this.violations.push(`VM ${id} started without a disk`);
        this.vms.set(id, { status: 'running', spec, memory: this.#boot(spec.memoryFile) });
      },
      status: async (id) => this.vms.get(id)?.status ?? 'absent',
      freeze: async (id) => {
        this.#vm(id).status = 'frozen';
      },
      unfreeze: async (id) => {
        this.#vm(id).status = 'running';
      },
      save: async (id, file) => {
        const vm = this.#vm(id);
        if (vm.status !== 'frozen') this.violations.push(`VM ${id} was saved while it ran`);
        this.files.set(file, structuredClone(vm.memory));
        return { bytes: 1024, sha256: createHash('sha256').update(JSON.stringify(vm.memory)).digest('hex') };
      },
      kill: async (id) => {
        this.vms.delete(id);
      },
      consoleLog: async (id, maxBytes) => `console of ${id}`.slice(-maxBytes),
      list: async () => [...this.vms.keys()],
    };
  }

  #disk(): Disk {
    const attachment = (id: string) => ({ path: `/fake/disks/${id}`, format: 'qcow2' as const });
    const drop = async (id: string, verb: string) => {
      if (this.vms.has(id)) this.violations.push(`disk ${id}: ${verb} under a living VM`);
    };
    return {
      create: async (id, base) => {
        if (!this.disks.has(id)) this.disks.set(id, { base, content: [] });
        return attachment(id);
      },
      attach: async (id) => {
        await drop(id, 'attach');
        const disk = this.#existing(this.disks, id, 'disk');
        if (disk.point) disk.content = [...disk.point];
        disk.point = [...disk.content];
        return attachment(id);
      },
      find: async (id) => (this.disks.has(id) ? attachment(id) : undefined),
      commit: async (id) => {
        delete this.#existing(this.disks, id, 'disk').point;
      },
      rollback: async (id) => {
        await drop(id, 'rollback');
        const disk = this.disks.get(id);
        if (disk?.point) disk.content = disk.point;
        delete disk?.point;
      },
      detach: async (id) => drop(id, 'detach'),
      remove: async (id) => {
        await drop(id, 'remove');
        this.disks.delete(id);
      },
      publish: async (id, path) => {
        await drop(id, 'publish');
        const disk = this.#existing(this.disks, id, 'disk');
        this.disks.delete(id);
        return { base: { path, format: 'qcow2' }, bytes: 4096 + disk.content.length };
      },
      list: async () => [...this.disks.keys()],
    };
  }

  #network(): Network {
    return {
      ensure: async (id, { egress }) => {
        const found = this.networks.get(id);
        if (found) return found;
        this.#slots += 1;
        const made = {
          namespace: `sbx-${id}`,
          tap: 'tap0',
          mac: '02:fc:00:00:00:05',
          hostAddress: `192.0.2.${this.#slots}`,
          egress,
        };
        this.networks.set(id, made);
        return made;
      },
      find: async (id) => this.networks.get(id),
      remove: async (id) => {
        if (this.vms.has(id)) this.violations.push(`network ${id} removed under a living VM`);
        this.networks.delete(id);
      },
      list: async () => [...this.networks.keys()],
    };
  }

  #guest(): Guest {
    return {
      waitReady: async (address) => {
        this.#reach(address);
      },
      init: async (address, id, config) => {
        this.#reach(address).memory.quiesced = false;
        this.inits.push({ id, config });
      },
      quiesce: async (address) => {
        this.#reach(address).memory.quiesced = true;
      },
      unquiesce: async (address) => {
        this.#reach(address).memory.quiesced = false;
      },
      run: async (address, _token, command) => {
        const vm = this.#reach(address);
        vm.memory.notes.push(command);
        return { ...(this.commandResults.get(command) ?? { exitCode: 0, output: '' }), durationMs: 1 };
      },
    };
  }

  #snapshots(): SnapshotStore {
    return {
      save: async (id, generation, write) => {
        const generations = this.saved.get(id) ?? new Map<number, { info: SnapshotInfo; file: string }>();
        const found = generations.get(generation);
        if (found) return found.info;
        const file = `/fake/snapshots/${id}/${generation}/memory`;
        const written = await write(file);
        const info = { generation, memoryBytes: written.bytes, frozenMs: written.frozenMs };
        this.saved.set(id, generations.set(generation, { info, file }));
        return info;
      },
      memoryFile: async (id, generation) => {
        const found = this.saved.get(id)?.get(generation);
        if (!found) throw new DomainError('not_found', `no memory snapshot ${generation} of ${id}`);
        return found.file;
      },
      delete: async (id, generation) => {
        const generations = this.saved.get(id);
        generations?.delete(generation);
        if (generations?.size === 0) this.saved.delete(id);
      },
      deleteAll: async (id) => {
        this.saved.delete(id);
      },
      list: async () => [...this.saved.keys()],
    };
  }

  #builds(): BuildStore {
    return {
      save: async (buildId, write) => {
        const found = this.published.get(buildId);
        if (found) return found.artefact;
        const memoryFile = `/fake/builds/${buildId}/memory`;
        const { disk, sha256: _, ...artefact } = await write({ memoryFile, diskFile: `/fake/builds/${buildId}/disk` });
        this.published.set(buildId, { artefact, disk, memoryFile });
        return artefact;
      },
      find: async (buildId) => this.#existing(this.published, buildId, 'build'),
      delete: async (buildId) => {
        this.published.delete(buildId);
      },
      list: async () => [...this.published.keys()],
    };
  }

  #images(): ImageCatalogue {
    return {
      rootfs: async (image) => {
        if (this.imageNames.has(image)) return { path: `/fake/images/${image}`, format: 'raw' };
        throw new DomainError(
          'not_found',
          `no image ${image} on this host; there is ${[...this.imageNames].join(', ')}`,
        );
      },
    };
  }

  #controlPlane(): ControlPlane {
    return {
      guestConfig: async (id) =>
        this.configs.get(id) ?? { accessToken: `token-${id}`, env: {}, templateId: 'template', user: 'user' },
    };
  }

  #boot(memoryFile: string | undefined): FakeMemory {
    if (memoryFile === undefined) {
      this.#boots += 1;
      return { bootId: `boot-${this.#boots}`, notes: [], quiesced: false };
    }
    return structuredClone(this.#existing(this.files, memoryFile, 'memory file'));
  }

  /** The VM behind an address, as the network leads to it. */
  #reach(address: string): FakeVm {
    const id = [...this.networks].find(([, network]) => network.hostAddress === address)?.[0];
    const vm = id === undefined ? undefined : this.vms.get(id);
    if (vm?.status !== 'running') throw new DomainError('guest_unavailable', `no guest answers at ${address}`);
    return vm;
  }

  #vm(id: string): FakeVm {
    return this.#existing(this.vms, id, 'VM');
  }

  #existing<T>(all: Map<string, T>, id: string, what: string): T {
    const found = all.get(id);
    if (found === undefined) throw new DomainError('not_found', `no ${what} ${id} on this host`);
    return found;
  }

  /** Records every call of a port and lets the fault points act before and after it. */
  #watched<P extends keyof HostPorts>(port: P, implementation: HostPorts[P]): HostPorts[P] {
    return new Proxy(implementation, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property);
        if (typeof value !== 'function' || typeof property !== 'string') return value;
        const method = `${port}.${property}` as PortMethod;
        return async (...args: unknown[]): Promise<unknown> => {
          const signal = args.find((arg) => arg instanceof AbortSignal);
          this.calls.push({ method, id: this.#subject(args[0]) });
          await this.faults.before(method, signal);
          const result: unknown = await Reflect.apply(value, target, args);
          this.faults.after(method);
          return result;
        };
      },
    });
  }

  /** The sandbox a call is about; guests are known by address, journal entries carry it. */
  #subject(first: unknown): string {
    if (typeof first === 'object' && first !== null && 'sandboxId' in first) return String(first.sandboxId);
    const id = [...this.networks].find(([, network]) => network.hostAddress === first)?.[0];
    return id ?? String(first ?? '');
  }
}
