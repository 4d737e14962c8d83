import { open, readFile } from 'node:fs/promises';
import type { VmStatus } from '../../../activities/host/contract.js';
import type { Hypervisor, VmSpec } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import type { Exec } from '../../exec.js';
import { KeyedMutex } from '../../keyed-mutex.js';
import { SandboxFolders } from '../../sandbox-folder.js';
import { UndoStack } from '../../undo-stack.js';
import { ConsoleLogs } from '../vmm/console-logs.js';
import {
  type Accel,
  type GuestBoot,
  TRANSLATION_CACHE_MB,
  cpuModel,
  qemuBinary,
  vmArguments,
  vmName,
} from './machine.js';
import { MemoryReceiver } from './memory-file.js';
import { cancelMigration, loadMemory, sendMemory } from './migration.js';
import { QmpClient } from './qmp-client.js';
import { startFailure } from './start-failure.js';
import { VmCgroup } from '../vmm/vm-cgroup.js';
import { VmFolder } from '../vmm/vm-folder.js';
import { type ProcessIdentity, findByArgument, isAlive, killProcess, matchesInArguments } from '../vmm/vm-process.js';
import { confine, giveDisk, identifySpawned, isToStart, untilItAnswers } from '../vmm/vm-start.js';
import { type VmUser, asUser, lookUpUser, requireReachable } from '../vmm/vm-user.js';

/** From the start of the process to its monitor. */
const MONITOR_TIMEOUT_MS = 20_000;
const KILL_TIMEOUT_MS = 15_000;
/** What QEMU takes beside the guest's memory and its translated code. */
const OVERHEAD_MB = 512;

export interface QemuOptions {
  exec: Exec;
  dataDir: string;
  runDir: string;
  boot: GuestBoot;
  accel: Accel;
  /** Unprivileged user that VMs run as. */
  vmUser: string;
  /** Control group that those of VMs are made in. */
  vmCgroup?: string;
  /** Told what a VM has to do without. */
  warn?: (fields: Record<string, unknown>, message: string) => void;
}

/**
 * One QEMU process per VM, in a session and a control group of its own, inside the
 * network namespace of its sandbox, as an unprivileged user and behind seccomp. All
 * that this class knows of a VM is on disk and in the kernel, so that any worker can
 * go on with what another one began.
 */
export class QemuHypervisor implements Hypervisor {
  readonly #folders: SandboxFolders;
  readonly #consoles: ConsoleLogs;
  readonly #locks = new KeyedMutex();

  private constructor(
    private readonly options: QemuOptions,
    readonly identity: { name: string; version: string; cpu: string },
    private readonly cpu: string,
    private readonly user: VmUser,
  ) {
    this.#folders = new SandboxFolders(options.dataDir);
    this.#consoles = new ConsoleLogs(this.#folders);
  }

  static async open(options: QemuOptions): Promise<QemuHypervisor> {
    const { stdout } = await options.exec.run([qemuBinary(), '--version']);
    const version = /version ([\d.]+)/.exec(stdout)?.[1];
    if (version === undefined)
      throw new DomainError('unsupported', `${qemuBinary()} does not tell its version: ${stdout}`);
    const user = await lookUpUser(options.exec, options.vmUser);
    const cpu = cpuModel(options.accel, await readFile('/proc/cpuinfo', 'utf8'));
    return new QemuHypervisor(options, { name: 'qemu', version, cpu: `${options.accel}:${cpu}` }, cpu, user);
  }

  start(id: string, spec: VmSpec, signal?: AbortSignal): Promise<void> {
    return this.#locks.runExclusive(id, async () => {
      if (!isToStart(id, await this.status(id))) return;
      if (await this.#folder(id).exists()) await this.#kill(id);
      await this.#start(id, spec, signal);
    });
  }

  async status(id: string): Promise<VmStatus> {
    const folder = this.#folder(id);
    const record = await folder.record();
    if (record?.started !== true || !(await isAlive(record.process))) return 'absent';
    try {
      const status = await QmpClient.with(folder.query, {}, async (qmp) => {
        await requireName(id, qmp);
        return runState(qmp);
      });
      return status === 'running' ? 'running' : 'frozen';
    } catch (err) {
      if (!(await isAlive(record.process))) return 'absent';
      throw err;
    }
  }

  freeze(id: string, signal?: AbortSignal): Promise<void> {
    return this.#locks.runExclusive(id, async () => {
      await this.#requireVm(id);
      // QEMU writes all disk requests out before it answers.
      await QmpClient.with(this.#folder(id).control, { signal }, (qmp) =>
        qmp.execute('stop', {}, { timeoutMs: 60_000, signal }),
      );
    });
  }

  /** Not behind the lock: it must be able to end a save that holds it. */
  async unfreeze(id: string, signal?: AbortSignal): Promise<void> {
    await this.#requireVm(id);
    await QmpClient.with(this.#folder(id).query, { signal }, async (qmp) => {
      await cancelMigration(qmp);
      if ((await runState(qmp)) !== 'running') await qmp.execute('cont', {}, { timeoutMs: 60_000, signal });
    });
  }

  save(id: string, file: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }> {
    return this.#locks.runExclusive(id, async () => {
      await this.#requireVm(id);
      const folder = this.#folder(id);
      return QmpClient.with(folder.control, { signal }, async (qmp) => {
        await requireFrozen(id, qmp);
        const receiver = await MemoryReceiver.listen(folder.save, file, this.user);
        try {
          return await sendMemory(qmp, receiver, folder.save, signal);
        } catch (err) {
          if (await this.#isThere(id)) await QmpClient.with(folder.query, {}, cancelMigration);
          throw err;
        } finally {
          await receiver.close();
        }
      });
    });
  }

  /** Memory is loaded before the virtual CPUs run. */
  async awaitMemory(): Promise<void> {}

  kill(id: string): Promise<void> {
    return this.#locks.runExclusive(id, () => this.#kill(id));
  }

  consoleLog(id: string, maxBytes: number): Promise<string> {
    return this.#consoles.tail(id, maxBytes);
  }

  /** To be called now and then: a guest can print without end, and only QEMU holds the pen. */
  trimConsoles(): Promise<void> {
    return this.#consoles.trim();
  }

  async list(): Promise<string[]> {
    const { runDir } = this.options;
    const living = await matchesInArguments(VmFolder.socketArgument(runDir));
    return [...new Set([...(await VmFolder.list(runDir)), ...living])];
  }

  async #start(id: string, spec: VmSpec, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const folder = this.#folder(id);
    const undo = new UndoStack();
    undo.push(`VM ${id}`, () => this.#kill(id));
    try {
      await this.#prepareFiles(id, spec);
      await folder.create(this.user);
      const process = await this.#spawn(id, spec, folder);
      await folder.setRecord({ process, started: false });
      await this.#confine(id, process.pid, spec);
      const qmp = await this.#connectWhenUp(process, folder, signal);
      try {
        if (spec.memoryFile !== undefined) {
          await loadMemory(qmp, signal);
          await qmp.execute('cont', {}, { signal });
        }
      } finally {
        qmp.close();
      }
      await folder.setRecord({ process, started: true });
    } catch (err) {
      const log = await folder.logTail();
      throw await undo.unwind(signal?.aborted === true ? err : startFailure(id, spec, err, log));
    }
  }

  async #prepareFiles(id: string, spec: VmSpec): Promise<void> {
    const { boot } = this.options;
    for (const path of [boot.kernel, boot.initramfs, spec.disk.path]) await requireReachable(this.user, path);
    await giveDisk(this.user, id, spec);
    await this.#folders.ensure(id);
    await this.#consoles.prepare(id, this.user);
  }

  async #spawn(id: string, spec: VmSpec, folder: VmFolder): Promise<ProcessIdentity> {
    const { exec, accel, boot } = this.options;
    const paths = { control: folder.control, query: folder.query, console: this.#consoles.path(id) };
    const argv = [
      ...['nsenter', `--net=/run/netns/${spec.network.namespace}`],
      ...(await asUser(this.user, accel === 'kvm')),
      ...[qemuBinary(), ...vmArguments({ id, accel, cpu: this.cpu, spec, boot, paths })],
    ];
    // Opened here: saved memory holds secrets and stays root's.
    const memory = spec.memoryFile === undefined ? undefined : await open(spec.memoryFile, 'r');
    try {
      const fds = memory === undefined ? [] : [memory.fd];
      const { pid } = await exec.spawnDetached(argv, { logFile: folder.log, fds });
      return await identifySpawned(id, pid);
    } finally {
      await memory?.close();
    }
  }

  #confine(id: string, pid: number, { vcpus, memoryMb }: VmSpec): Promise<void> {
    const { accel, warn } = this.options;
    const cache = accel === 'tcg' ? TRANSLATION_CACHE_MB : 0;
    return confine(id, this.#cgroup(id), pid, { vcpus, memoryMb: memoryMb + cache + OVERHEAD_MB }, warn);
  }

  #connectWhenUp(process: ProcessIdentity, folder: VmFolder, signal: AbortSignal | undefined): Promise<QmpClient> {
    const connect = () => QmpClient.connect(folder.control, { timeoutMs: MONITOR_TIMEOUT_MS, signal });
    return untilItAnswers(process, connect, MONITOR_TIMEOUT_MS, signal);
  }

  async #kill(id: string): Promise<void> {
    const folder = this.#folder(id);
    // One that cannot be read says as little as none.
    const record = await folder.record().catch(() => undefined);
    // A worker that died between starting the process and writing that down leaves only the process's arguments.
    const processes = record === undefined ? await findByArgument(folder.control) : [record.process];
    for (const process of processes) await killProcess(process, KILL_TIMEOUT_MS);
    await this.#cgroup(id).remove();
    await folder.remove();
  }

  async #isThere(id: string): Promise<boolean> {
    const record = await this.#folder(id).record();
    return record?.started === true && (await isAlive(record.process));
  }

  async #requireVm(id: string): Promise<void> {
    if (await this.#isThere(id)) return;
    throw new DomainError('not_found', `${id} has no running VM on this host`);
  }

  #cgroup(id: string): VmCgroup {
    return new VmCgroup(id, this.options.vmCgroup);
  }

  #folder(id: string): VmFolder {
    return new VmFolder(this.options.runDir, id);
  }
}

/** That the process answers is not enough: its folder may have been another VM's. */
async function requireName(id: string, qmp: QmpClient): Promise<void> {
  const { name } = (await qmp.execute('query-name')) as { name?: string };
  if (name === vmName(id)) return;
  throw new DomainError(
    'command_failed',
    `the process behind the sockets of VM ${id} says that it is ${name ?? 'nameless'}; see \`ps -ef | grep ${vmName(id)}\``,
  );
}

async function runState(qmp: QmpClient): Promise<string> {
  const { status } = (await qmp.execute('query-status')) as { status: string };
  return status;
}

async function requireFrozen(id: string, qmp: QmpClient): Promise<void> {
  const status = await runState(qmp);
  if (status === 'running')
    throw new DomainError('state_conflict', `the VM of ${id} runs: freeze it before it is saved`);
  if (status !== 'postmigrate') return;
  // QEMU saves a stopped VM only once. Nobody relies on the save before this one, so a moment of running is harmless.
  await qmp.execute('cont');
  await qmp.execute('stop', {}, { timeoutMs: 60_000 });
}
