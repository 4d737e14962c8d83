import { stat } from 'node:fs/promises';
import type { VmSpec } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { corrupt } from '../../saved-memory.js';
import type { ProcessIdentity } from '../vmm/vm-process.js';
import { confine, giveDisk, identifySpawned, untilItAnswers } from '../vmm/vm-start.js';
import { asUser, requireReachable } from '../vmm/vm-user.js';
import type { Machine } from './machine.js';
import { type SavedConfig, type VmSurroundings, adoptedConfig, newVm } from './vm-config.js';
import { vmmArguments } from './vmm-arguments.js';
import type { FileIdentity } from './workspace.js';

/** From the start of the process to its socket. */
const SOCKET_TIMEOUT_MS = 20_000;
/** What the VMM takes beside the guest's memory. */
const OVERHEAD_MB = 256;
const ROOT = { name: 'root', uid: 0, gid: 0 };

/** Files and directories of one VM, before its process. */
export async function prepareFiles(machine: Machine, id: string, spec: VmSpec): Promise<void> {
  const { folders, consoles, found, options } = machine;
  const { boot } = options;
  for (const path of [boot.kernel, boot.initramfs, spec.disk.path]) await requireReachable(found.user, path);
  await prepareDisk(machine, id, spec);
  await folders.ensure(id);
  // Root's own: the VMM inherits it as its standard output and need not open it.
  await consoles.prepare(id, ROOT);
  await machine.workspace(id).create();
  await machine.folder(id).create(found.user);
}

async function prepareDisk({ found: { user } }: Machine, id: string, spec: VmSpec): Promise<void> {
  const { disk } = spec;
  await giveDisk(user, id, spec);
  const found = await stat(disk.path);
  // The VMM would take it for a disk without sectors, and the guest would say no more than that it finds none.
  if (disk.format !== 'raw' || !found.isFile() || (found.size > 0 && found.size % 512 === 0)) return;
  throw new DomainError(
    'command_failed',
    `the VM of ${id} did not start: ${disk.path} is not a whole number of sectors, so it is no raw disk; see \`qemu-img info ${disk.path}\``,
  );
}

/** A process of its own session, namespace, user and control group that waits for calls. */
export async function spawnVmm(machine: Machine, id: string, spec: VmSpec): Promise<ProcessIdentity> {
  const { options, found } = machine;
  const folder = machine.folder(id);
  const argv = [
    ...['nsenter', `--net=/run/netns/${spec.network.namespace}`],
    ...(await asUser(found.user, true)),
    ...vmmArguments({ binary: machine.binary, control: folder.control }),
  ];
  const events = await machine.events(id).openForVmm();
  try {
    const { pid } = await options.exec.spawnDetached(argv, {
      logFile: folder.log,
      outputFile: machine.consoles.path(id),
      fds: [events.fd],
    });
    return await identifySpawned(id, pid);
  } finally {
    await events.close();
  }
}

/** What the VMM takes of the machine is limited before it takes anything. */
export function confineVmm(machine: Machine, id: string, pid: number, { vcpus, memoryMb }: VmSpec): Promise<void> {
  return confine(id, machine.cgroup(id), pid, { vcpus, memoryMb: memoryMb + OVERHEAD_MB }, machine.options.warn);
}

export async function untilVmmAnswers(
  machine: Machine,
  id: string,
  process: ProcessIdentity,
  signal: AbortSignal | undefined,
): Promise<void> {
  const ping = () => machine.api(id).ping({ timeoutMs: SOCKET_TIMEOUT_MS, signal });
  await untilItAnswers(process, ping, SOCKET_TIMEOUT_MS, signal);
}

export async function bootCold(machine: Machine, id: string, spec: VmSpec, signal?: AbortSignal): Promise<void> {
  const api = machine.api(id);
  await api.create(newVm(spec, surroundings(machine, id, spec)), { signal });
  await api.boot({ signal });
}

/**
 * Loads saved memory and lets the virtual CPUs run. Where it is loaded on demand, `onReading` is told which file, before
 * the first byte is read.
 */
export async function restore(
  machine: Machine,
  id: string,
  spec: VmSpec & { memoryFile: string },
  onReading: (memory: FileIdentity) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const adopt = (saved: SavedConfig): SavedConfig => {
    requireShape(saved, spec);
    return adoptedConfig(saved, spec, surroundings(machine, id, spec));
  };
  const workspace = machine.workspace(id);
  const { directory, memory, clockStands } = await workspace.layOut(spec.memoryFile, adopt);
  if (!clockStands)
    machine.warn({ sandboxId: id }, "the guest's clock may jump: its saved state is of an unknown form");
  const onDemand = machine.found.onDemand.usable && machine.options.eager !== true;
  if (onDemand) await onReading(memory);
  const from = { source_url: `file://${directory}`, memory_restore_mode: onDemand ? 'OnDemand' : 'Copy' } as const;
  await machine.api(id).restore({ ...from, resume: true }, { signal });
  await workspace.clearAway();
}

function requireShape(saved: SavedConfig, spec: VmSpec & { memoryFile: string }): void {
  const [vcpus, memoryMb] = [saved.cpus.boot_vcpus, saved.memory.size / (1024 * 1024)];
  if (vcpus === spec.vcpus && memoryMb === spec.memoryMb) return;
  const asked = `${spec.vcpus} virtual CPUs and ${spec.memoryMb} MiB`;
  throw corrupt(spec.memoryFile, `it is of a VM with ${vcpus} virtual CPUs and ${memoryMb} MiB, not ${asked}`);
}

/** Landlock would keep the VMM from the files below a qcow2 one, whose names only that file knows. */
function surroundings(machine: Machine, id: string, spec: VmSpec): VmSurroundings {
  const landlock = machine.found.landlock.usable && spec.disk.format === 'raw';
  return { boot: machine.options.boot, workspace: machine.workspace(id).path, landlock };
}
