import { dirname } from 'node:path';
import type { SnapshotInfo } from '../../activities/host/contract.js';
import type { BuildStore, Disk, DiskBase, ImageCatalogue, SnapshotStore } from '../../activities/host/ports.js';
import { checkedId } from '../../host-worker/sandbox-folder.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeMachine } from './fake-machine.js';

export function diskPath(id: string): string {
  return `/fake/disks/${id}`;
}

/** A disk's content is what was written to it, in order; that of a base is kept as JSON. */
export function fakeDisk(machine: FakeMachine): Disk {
  const attachment = (id: string) => ({ path: diskPath(id), format: 'qcow2' as const });
  const noVm = (id: string, verb: string): void => {
    if (machine.vms.has(id)) machine.violations.push(`disk ${id}: ${verb} under a living VM`);
  };
  return {
    create: async (id, base) => {
      if (machine.disks.has(checkedId(id))) return attachment(id);
      requireBase(machine, base, id);
      machine.disks.set(id, { base, content: [] });
      return attachment(id);
    },
    attach: async (id) => {
      noVm(id, 'attach');
      const disk = machine.disk(id);
      if (disk.point) disk.content = [...disk.point];
      disk.point = [...disk.content];
      return attachment(id);
    },
    find: async (id) => (machine.disks.has(id) ? attachment(id) : undefined),
    commit: async (id) => {
      delete machine.disk(id).point;
    },
    rollback: async (id) => {
      noVm(id, 'rollback');
      const disk = machine.disks.get(id);
      if (disk?.point) disk.content = disk.point;
      delete disk?.point;
    },
    detach: async (id) => {
      noVm(id, 'detach');
      delete machine.disks.get(id)?.point;
    },
    remove: async (id) => {
      noVm(id, 'remove');
      machine.disks.delete(id);
    },
    publish: async (id, path) => {
      noVm(id, 'publish');
      if (machine.disks.has(id) || !machine.files.read(path)) {
        const { base, content } = machine.disk(id);
        machine.files.write(path, JSON.stringify([...contentOf(machine, base), ...content]));
        machine.disks.delete(id);
      }
      return { base: { path, format: 'qcow2' }, bytes: 4096 + (machine.files.read(path)?.length ?? 0) };
    },
    list: async () => [...machine.disks.keys()],
  };
}

export function contentOf(machine: FakeMachine, base: DiskBase): string[] {
  return JSON.parse(machine.files.read(base.path)?.toString() ?? '[]') as string[];
}

function requireBase(machine: FakeMachine, base: DiskBase, id: string): void {
  if (machine.files.read(base.path)) return;
  throw new DomainError('not_found', `the base image ${base.path}, over which the disk of ${id} is laid, is missing`);
}

export function fakeSnapshots(machine: FakeMachine): SnapshotStore {
  const directory = (id: string, generation: number): string => `/fake/snapshots/${checkedId(id)}/${generation}`;
  const remove = (id: string, generation: number): void => {
    for (const suffix of ['', '.partial']) machine.files.remove(`${directory(id, generation)}${suffix}`);
    const generations = machine.saved.get(id);
    generations?.delete(generation);
    if (generations?.size === 0) machine.saved.delete(id);
  };
  return {
    save: async (id, generation, write, signal) => {
      const generations = machine.saved.get(id) ?? new Map<number, { info: SnapshotInfo; file: string }>();
      const found = generations.get(generation);
      if (found) return found.info;
      const final = directory(id, generation);
      const partial = `${final}.partial`;
      try {
        machine.files.mkdir(partial);
        const written = await write(`${partial}/memory`);
        signal?.throwIfAborted();
        requireWhole(machine, `${partial}/memory`, written.bytes);
        machine.files.rename(partial, final);
        const info = { generation, memoryBytes: written.bytes, frozenMs: written.frozenMs };
        machine.saved.set(id, generations.set(generation, { info, file: `${final}/memory` }));
        return info;
      } finally {
        machine.files.remove(partial);
      }
    },
    memoryFile: async (id, generation) => {
      const found = machine.saved.get(id)?.get(generation);
      if (!found) throw new DomainError('not_found', `no memory snapshot ${generation} of ${id}`);
      requireWhole(machine, found.file, found.info.memoryBytes);
      return found.file;
    },
    delete: async (id, generation) => remove(id, generation),
    generations: async (id) => [...(machine.saved.get(id)?.keys() ?? [])],
    // A failed save of this one leaves nothing.
    deleteUnfinished: async () => {},
    deleteAll: async (id) => {
      machine.saved.delete(id);
      machine.consoles.delete(id);
      machine.files.remove(`/fake/snapshots/${id}`);
    },
    list: async () => [...machine.saved.keys()],
  };
}

function requireWhole(machine: FakeMachine, path: string, bytes: number): void {
  const size = machine.files.read(path)?.length;
  if (size === bytes) return;
  throw new DomainError('snapshot_corrupt', `${path} cannot be trusted: it has ${size ?? 'no'} bytes, not ${bytes}`);
}

export function fakeBuilds(machine: FakeMachine): BuildStore {
  return {
    save: async (buildId, write, signal) => {
      const found = machine.published.get(checkedId(buildId));
      if (found) return found.artefact;
      const final = `/fake/builds/${buildId}`;
      const partial = `${final}.partial`;
      machine.files.mkdir(partial);
      const {
        disk,
        sha256: _,
        ...artefact
      } = await write({
        memoryFile: `${partial}/memory`,
        diskFile: `${partial}/disk`,
      });
      signal?.throwIfAborted();
      if (dirname(disk.path) !== partial || !machine.files.read(disk.path)) {
        throw new DomainError('snapshot_corrupt', `the disk ${disk.path} of build ${buildId} is missing`);
      }
      requireWhole(machine, `${partial}/memory`, artefact.memoryBytes);
      machine.files.rename(partial, final);
      const base = { path: final + disk.path.slice(partial.length), format: disk.format };
      machine.published.set(buildId, { artefact, disk: base, memoryFile: `${final}/memory` });
      return artefact;
    },
    find: async (buildId) => machine.build(buildId),
    memoryFile: async (buildId) => machine.build(buildId).memoryFile,
    delete: async (buildId) => {
      machine.published.delete(buildId);
      for (const suffix of ['', '.partial']) machine.files.remove(`/fake/builds/${buildId}${suffix}`);
    },
    list: async () => [...new Set([...machine.published.keys(), ...machine.unfinishedBuilds()])],
    unfinished: async () => machine.unfinishedBuilds(),
    deleteUnfinished: async (buildId) => machine.files.remove(`/fake/builds/${buildId}.partial`),
  };
}

export function fakeImages(machine: FakeMachine): ImageCatalogue {
  return {
    rootfs: async (image) => {
      const path = `/fake/images/${image}`;
      if (!machine.imageNames.has(image)) {
        const known = [...machine.imageNames].join(', ');
        throw new DomainError('not_found', `no image ${image} on this host; there is ${known}`);
      }
      if (!machine.files.read(path)) machine.files.write(path, '[]');
      return { path, format: 'raw' };
    },
  };
}
