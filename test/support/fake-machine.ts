import type { BuildArtefact, SnapshotInfo } from '../../activities/host/contract.js';
import type { DiskBase, GuestConfig, NetworkAttachment } from '../../activities/host/ports.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { NetworkPolicy } from '../../workflows/contract/network-policy.js';
import { FakeFiles } from './fake-files.js';
import type { FakeDisk, FakeVm } from './fake-guest-state.js';

/** What one machine has. It outlives the worker that uses it, like a real one. */
export class FakeMachine {
  /** Things that a real machine would have punished, such as a disk detached under its VM. */
  readonly violations: string[] = [];

  readonly vms = new Map<string, FakeVm>();
  /** What guests have printed; it outlives their VMs. */
  readonly consoles = new Map<string, string>();
  readonly networks = new Map<string, NetworkAttachment & { policy: NetworkPolicy }>();
  readonly disks = new Map<string, FakeDisk>();
  /** Saved memory by sandbox and generation. */
  readonly saved = new Map<string, Map<number, { info: SnapshotInfo; file: string }>>();
  readonly published = new Map<string, { artefact: BuildArtefact; disk: DiskBase; memoryFile: string }>();
  /** Saved memory and the bases of disks. */
  readonly files = new FakeFiles();
  readonly imageNames = new Set(['minimal']);
  /** What the control plane answers; every id gets a made-up one unless it is set here. */
  readonly configs = new Map<string, GuestConfig>();
  /** What each guest was told by `init`, in order. */
  readonly inits: { id: string; config: GuestConfig }[] = [];
  /** What set-up commands answer, by command; default is exit code 0 and no output. */
  readonly commandResults = new Map<string, { exitCode: number; output: string }>();

  /** The VM's process dies. */
  crashVm(id: string): void {
    this.vms.delete(id);
  }

  /** The machine loses power: processes and networks are gone, files stay. */
  losePower(): void {
    this.vms.clear();
    this.networks.clear();
  }

  vm(id: string): FakeVm {
    return existing(this.vms, id, 'VM');
  }

  disk(id: string): FakeDisk {
    return existing(this.disks, id, 'disk');
  }

  build(id: string): { artefact: BuildArtefact; disk: DiskBase; memoryFile: string } {
    return existing(this.published, id, 'build');
  }

  /** Builds that were begun and are neither published nor deleted. */
  unfinishedBuilds(): string[] {
    const names = this.files.list('/fake/builds');
    return names.filter((name) => name.endsWith('.partial')).map((name) => name.slice(0, -'.partial'.length));
  }

  /** The sandbox that has an address. */
  behind(address: unknown): string | undefined {
    return [...this.networks].find(([, network]) => network.hostAddress === address)?.[0];
  }
}

function existing<T>(all: Map<string, T>, id: string, what: string): T {
  const found = all.get(id);
  if (found === undefined) throw new DomainError('not_found', `no ${what} ${id} on this host`);
  return found;
}
