import type { Disk, DiskAttachment, DiskBase } from '../../activities/host/ports.js';
import { describeDiskConformance } from '../conformance/disk/disk.conformance.js';
import type { HarnessFiles } from '../conformance/harness-files.js';
import { describeHypervisorConformance, type GuestView } from '../conformance/hypervisor/hypervisor.conformance.js';
import { describeNetworkConformance } from '../conformance/network/network.conformance.js';
import { describeBuildStoreConformance } from '../conformance/stores/build-store.conformance.js';
import { describeSnapshotStoreConformance } from '../conformance/stores/snapshot-store.conformance.js';
import { FakeHost } from './fake-host-ports.js';
import { contentOf, diskPath } from './fake-storage-ports.js';

const nothing = async (): Promise<void> => {};

function filesOf(host: FakeHost): HarnessFiles {
  return {
    read: async (path) => {
      const content = host.files.read(path);
      if (!content) throw new Error(`no file ${path}`);
      return content;
    },
    write: async (path, content) => host.files.write(path, content),
    remove: async (path) => host.files.remove(path),
    size: async (path) => host.files.read(path)?.length ?? 0,
  };
}

/** Paths in a directory that is there. */
function paths(): () => string {
  let count = 0;
  return () => `/fake/scratch/file${(count += 1)}`;
}

function guestOf(host: FakeHost, id: string): GuestView {
  const awake = async (): Promise<void> => {
    const network = await host.ports.network.find(id);
    await host.ports.guest.waitReady(network?.hostAddress ?? '', 0);
  };
  return {
    awake,
    answersWithin: () =>
      awake().then(
        () => true,
        () => false,
      ),
    bootId: async () => host.vm(id).memory.bootId,
    // What it has done is as good a clock as any, a millisecond each: it only grows, and goes with the memory.
    uptime: async () => host.vm(id).memory.notes.length / 1000,
    remember: async (text) => void host.vm(id).memory.notes.push(text),
    remembered: async () => host.vm(id).memory.notes.at(-1) ?? '',
  };
}

describeHypervisorConformance('fake', async () => {
  const host = new FakeHost();
  const { hypervisor, network, disk, images } = host.ports;
  const id = 'vm1';
  const spec = {
    ...{ vcpus: 1, memoryMb: 128 },
    network: await network.ensure(id, { egress: true }),
    disk: await disk.create(id, await images.rootfs('minimal')),
  };
  return {
    ...{ hypervisor, id, spec, guest: guestOf(host, id), files: filesOf(host) },
    leastMemoryBytes: '{}'.length,
    restarted: async () => hypervisor,
    newPath: paths(),
    leftovers: async () => [...host.vms.keys()],
    dispose: nothing,
  };
});

describeDiskConformance('fake', async () => {
  const host = new FakeHost();
  const { disk, images } = host.ports;
  const idAt = (path: string): string | undefined => [...host.disks.keys()].find((id) => diskPath(id) === path);
  const put = async ({ path }: DiskAttachment | DiskBase, value: number): Promise<void> => {
    const id = idAt(path);
    if (id === undefined) host.files.write(path, JSON.stringify([String(value)]));
    else host.disk(id).content.push(String(value));
  };
  const get = async (shown: DiskAttachment | DiskBase): Promise<number> => {
    const id = idAt(shown.path);
    const written = id === undefined ? contentOf(host, shown) : host.disk(id).content;
    const below = id === undefined ? [] : contentOf(host, host.disk(id).base);
    return Number(written.at(-1) ?? below.at(-1) ?? 0);
  };
  const restarted = (): Disk => disk;
  return { disk, base: await images.rootfs('minimal'), put, get, newPath: paths(), restarted, dispose: nothing };
});

describeNetworkConformance('fake', async () => {
  const host = new FakeHost();
  const { network } = host.ports;
  return {
    network,
    restarted: () => network,
    leftovers: async () => [...host.networks.keys()],
    suffix: '',
    dispose: nothing,
  };
});

describeSnapshotStoreConformance('fake', async () => {
  const host = new FakeHost();
  const store = host.ports.snapshots;
  return { store, files: filesOf(host), restarted: () => store, dispose: nothing };
});

describeBuildStoreConformance('fake', async () => {
  const host = new FakeHost();
  const store = host.ports.builds;
  return { store, files: filesOf(host), restarted: () => store, dispose: nothing };
});
