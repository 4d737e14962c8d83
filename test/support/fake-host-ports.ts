import type { Verdict } from '../../activities/host/contract.js';
import type { ControlPlane, HostPorts } from '../../activities/host/ports.js';
import { FakeJournal } from './fake-journal.js';
import { FakeMachine } from './fake-machine.js';
import { fakeBuilds, fakeDisk, fakeImages, fakeSnapshots } from './fake-storage-ports.js';
import { fakeGuest, fakeHypervisor, fakeNetwork } from './fake-vm-ports.js';
import { FaultPoints } from './fault-points.js';

type MethodNames<T> = { [K in keyof T]: T[K] extends (...args: never[]) => Promise<unknown> ? K : never }[keyof T];
/** `port.method` of every asynchronous method of the ports. */
export type PortMethod = { [P in keyof HostPorts]: `${P}.${MethodNames<HostPorts[P]> & string}` }[keyof HostPorts];

/** Answered from memory by a real host too: nothing to delay, nothing that could fail. */
const SYNCHRONOUS: ReadonlySet<string> = new Set(['epochOf', 'ids', 'isOwn']);

/**
 * One machine in memory behind the ports of a host: everything that its steps do can be
 * looked at, made to fail, delayed and held up. That it behaves like a real one is what
 * the conformance suites of the drivers show of it too.
 *
 *   const host = new FakeHost();
 *   createHostActivities(host.ports);
 *   host.faults.fail('hypervisor.start', new Error('no'), { times: 2 });
 *   const block = host.faults.block('hypervisor.save'); await block.reached; block.release();
 *   expect(host.remaining()).toEqual([]);
 *   expect(host.violations).toEqual([]);
 */
export class FakeHost extends FakeMachine {
  readonly faults = new FaultPoints<PortMethod>();
  /** Every call in the order in which it began: `port.method id`. */
  readonly calls: { method: PortMethod; id: string }[] = [];
  readonly #journal = new FakeJournal();
  /** What the control plane says of a sandbox or build; a test that has a database puts its answer here. */
  verdictOf: (id: string) => Verdict = () => 'live';

  readonly ports: HostPorts = {
    hypervisor: this.#watched('hypervisor', fakeHypervisor(this)),
    disk: this.#watched('disk', fakeDisk(this)),
    network: this.#watched('network', fakeNetwork(this)),
    guest: this.#watched('guest', fakeGuest(this)),
    snapshots: this.#watched('snapshots', fakeSnapshots(this)),
    builds: this.#watched('builds', fakeBuilds(this)),
    images: this.#watched('images', fakeImages(this)),
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
      ...this.unfinishedBuilds().map((id) => `unfinished-build ${id}`),
      ...(options.builds ? [...this.published.keys()].map((id) => `build ${id}`) : []),
    ].sort();
  }

  /** Names of the methods called for one sandbox, in order. */
  methodsOf(id: string): PortMethod[] {
    return this.calls.filter((call) => call.id === id).map((call) => call.method);
  }

  /** The guest writes: to memory and to its disk. */
  write(id: string, note: string): void {
    const vm = this.vm(id);
    if (vm.status !== 'running') throw new Error(`VM ${id} is ${vm.status}`);
    vm.memory.notes.push(note);
    this.disk(id).content.push(note);
  }

  epochOf(id: string): { epoch: number; closed: boolean } | undefined {
    return this.#journal.find(id);
  }

  #controlPlane(): ControlPlane {
    return {
      verdicts: async (ids) => new Map(ids.map((id) => [id, this.verdictOf(id)])),
      guestConfig: async (id) =>
        this.configs.get(id) ?? { accessToken: `token-${id}`, env: {}, templateId: 'template', user: 'user' },
    };
  }

  /** Records every call of a port and lets the fault points act before and after it. */
  #watched<P extends keyof HostPorts>(port: P, implementation: HostPorts[P]): HostPorts[P] {
    return new Proxy(implementation, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property);
        if (typeof value !== 'function' || typeof property !== 'string') return value;
        if (SYNCHRONOUS.has(property)) return value.bind(target) as unknown;
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
    return this.behind(first) ?? String(first ?? '');
  }
}
