import { access } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { VmStatus } from '../../activities/host/contract.js';
import type { Hypervisor, VmSpec } from '../../activities/host/ports.js';
import { ConsoleLogs } from '../../host-worker/drivers/vmm/console-logs.js';
import { VmCgroup } from '../../host-worker/drivers/vmm/vm-cgroup.js';
import { VmFolder } from '../../host-worker/drivers/vmm/vm-folder.js';
import {
  type ProcessIdentity,
  findByArgument,
  isAlive,
  killProcess,
} from '../../host-worker/drivers/vmm/vm-process.js';
import {
  confine,
  identifySpawned,
  isToStart,
  missingDisk,
  untilItAnswers,
} from '../../host-worker/drivers/vmm/vm-start.js';
import { storageFailure, syncPath } from '../../host-worker/durable-file.js';
import { hasErrno } from '../../host-worker/errno.js';
import type { Exec } from '../../host-worker/exec.js';
import { KeyedMutex } from '../../host-worker/keyed-mutex.js';
import { SandboxFolders } from '../../host-worker/sandbox-folder.js';
import { UndoStack } from '../../host-worker/undo-stack.js';
import { DomainError } from '../../workflows/contract/errors.js';
import { VmmControl } from './vmm-control.js';

/** From the start of the process to its control socket, beside the time that it is told to take. */
const CONTROL_TIMEOUT_MS = 20_000;
const KILL_TIMEOUT_MS = 15_000;
/** What the process takes beside the guest's memory, with its tool for the disk. */
const OVERHEAD_MB = 256;
const ROOT_USER = { name: 'root', uid: 0, gid: 0 };

/** How long things take, beyond what they really do; nothing when absent. */
export interface SimulatedTimes {
  bootMs?: number;
  restoreMs?: number;
  saveMs?: number;
}

export interface SimulatedHypervisorOptions {
  exec: Exec;
  dataDir: string;
  runDir: string;
  /** The compiled `test/simulator/vmm`. */
  binary: string;
  /** Where every VMM writes down its start and its end. */
  ledger: string;
  times?: SimulatedTimes;
  /** Told what a VM has to do without. */
  warn?: (fields: Record<string, unknown>, message: string) => void;
}

/**
 * One process per VM in a session of its own and in the network namespace of its sandbox, as a real VMM; only the
 * guest inside is simulated. All that this class knows of a VM is on disk and in the kernel, so that any worker can go
 * on with what another one began.
 */
export class SimulatedHypervisor implements Hypervisor {
  readonly identity = { name: 'simulated', version: '1', cpu: 'simulated' };
  readonly #folders: SandboxFolders;
  readonly #consoles: ConsoleLogs;
  readonly #locks = new KeyedMutex();

  constructor(private readonly options: SimulatedHypervisorOptions) {
    this.#folders = new SandboxFolders(options.dataDir);
    this.#consoles = new ConsoleLogs(this.#folders);
  }

  start(id: string, spec: VmSpec, signal?: AbortSignal): Promise<void> {
    return this.#locks.runExclusive(id, async () => {
      if (!isToStart(id, await this.status(id))) return;
      await this.#kill(id);
      await this.#start(id, spec, signal);
    });
  }

  async status(id: string): Promise<VmStatus> {
    const record = await this.#folder(id).record();
    if (record?.started !== true || !(await isAlive(record.process))) return 'absent';
    try {
      return (await this.#control(id).status()).status;
    } catch (err) {
      if (!(await isAlive(record.process))) return 'absent';
      throw err;
    }
  }

  freeze(id: string, signal?: AbortSignal): Promise<void> {
    return this.#locks.runExclusive(id, async () => {
      await this.#requireVm(id);
      await this.#control(id).freeze(signal);
    });
  }

  /** Not behind the lock: it must be able to end a save that holds it. */
  async unfreeze(id: string, signal?: AbortSignal): Promise<void> {
    await this.#requireVm(id);
    await this.#control(id).unfreeze(signal);
  }

  save(id: string, file: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }> {
    return this.#locks.runExclusive(id, async () => {
      await this.#requireVm(id);
      try {
        const saved = await this.#control(id).save(file, signal);
        await syncPath(dirname(file));
        return saved;
      } catch (err) {
        signal?.throwIfAborted();
        throw storageFailure(err, `writing ${file}`);
      }
    });
  }

  /** Memory is loaded before the machine runs. */
  async awaitMemory(): Promise<void> {}

  kill(id: string): Promise<void> {
    return this.#locks.runExclusive(id, () => this.#kill(id));
  }

  consoleLog(id: string, maxBytes: number): Promise<string> {
    return this.#consoles.tail(id, maxBytes);
  }

  trimConsoles(): Promise<void> {
    return this.#consoles.trim();
  }

  list(): Promise<string[]> {
    return VmFolder.list(this.options.runDir);
  }

  async #start(id: string, spec: VmSpec, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const folder = this.#folder(id);
    const undo = new UndoStack();
    undo.push(`VM ${id}`, () => this.#kill(id));
    try {
      await this.#prepareFiles(id, spec);
      await folder.create(ROOT_USER);
      const process = await this.#spawn(id, spec, folder);
      await folder.setRecord({ process, started: false });
      await this.#confine(id, process.pid, spec);
      await this.#untilItRuns(id, process, signal);
      await folder.setRecord({ process, started: true });
    } catch (err) {
      const log = await folder.logTail();
      throw await undo.unwind(signal?.aborted === true ? err : startFailure(id, spec, err, log));
    }
  }

  async #prepareFiles(id: string, spec: VmSpec): Promise<void> {
    try {
      await access(spec.disk.path);
    } catch (err) {
      throw hasErrno(err, 'ENOENT') ? missingDisk(id, spec.disk.path, err) : err;
    }
    await this.#folders.ensure(id);
    await this.#consoles.prepare(id, ROOT_USER);
  }

  async #spawn(id: string, spec: VmSpec, folder: VmFolder): Promise<ProcessIdentity> {
    const { exec, binary, ledger, times = {} } = this.options;
    const values = {
      id,
      control: folder.control,
      tap: spec.network.tap,
      disk: spec.disk.path,
      'disk-format': spec.disk.format,
      'memory-mb': spec.memoryMb,
      console: this.#consoles.path(id),
      ledger,
      'boot-ms': times.bootMs ?? 0,
      'restore-ms': times.restoreMs ?? 0,
      'save-ms': times.saveMs ?? 0,
      ...(spec.memoryFile === undefined ? {} : { restore: spec.memoryFile }),
    };
    const flags = Object.entries(values).map(([name, value]) => `--${name}=${value}`);
    const argv = ['nsenter', `--net=/run/netns/${spec.network.namespace}`, binary, ...flags];
    const { pid } = await exec.spawnDetached(argv, { logFile: folder.log });
    return identifySpawned(id, pid);
  }

  #confine(id: string, pid: number, { vcpus, memoryMb }: VmSpec): Promise<void> {
    return confine(id, new VmCgroup(id), pid, { vcpus, memoryMb: memoryMb + OVERHEAD_MB }, this.options.warn);
  }

  async #untilItRuns(id: string, process: ProcessIdentity, signal: AbortSignal | undefined): Promise<void> {
    const timeoutMs = CONTROL_TIMEOUT_MS + (this.options.times?.restoreMs ?? 0);
    await untilItAnswers(process, () => this.#control(id).status(signal), timeoutMs, signal);
  }

  async #kill(id: string): Promise<void> {
    const folder = this.#folder(id);
    if (!(await folder.exists())) return;
    const record = await folder.record();
    // A worker that died between starting the process and writing that down leaves only the process's arguments.
    const processes = record === undefined ? await findByArgument(folder.control) : [record.process];
    for (const process of processes) await killProcess(process, KILL_TIMEOUT_MS);
    await new VmCgroup(id).remove();
    await folder.remove();
  }

  async #requireVm(id: string): Promise<void> {
    const record = await this.#folder(id).record();
    if (record?.started === true && (await isAlive(record.process))) return;
    throw new DomainError('not_found', `${id} has no running VM on this host`);
  }

  #control(id: string): VmmControl {
    return new VmmControl(this.#folder(id).control);
  }

  #folder(id: string): VmFolder {
    return new VmFolder(this.options.runDir, id);
  }
}

function startFailure(id: string, spec: VmSpec, cause: unknown, log: string): unknown {
  if (cause instanceof DomainError && cause.code !== 'command_failed' && cause.code !== 'timeout') return cause;
  const reason = log === '' ? (cause instanceof Error ? cause.message : String(cause)) : log;
  const unloadable = spec.memoryFile !== undefined && log.includes('load of saved memory');
  return new DomainError(
    unloadable ? 'snapshot_corrupt' : 'command_failed',
    unloadable
      ? `the VMM cannot load the saved memory ${spec.memoryFile} of ${id}: ${reason}`
      : `the VM of ${id} did not start: ${reason}`,
    {},
    { cause },
  );
}
