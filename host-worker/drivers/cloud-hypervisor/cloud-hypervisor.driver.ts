import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { VmStatus } from '../../../activities/host/contract.js';
import type { Hypervisor, VmSpec } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { KeyedMutex } from '../../keyed-mutex.js';
import { UndoStack } from '../../undo-stack.js';
import { VmFolder, type VmRecord } from '../vmm/vm-folder.js';
import {
  type ProcessIdentity,
  argumentsOf,
  findByArgument,
  isAlive,
  killProcess,
  matchesInArguments,
} from '../vmm/vm-process.js';
import { isToStart } from '../vmm/vm-start.js';
import { lookUpUser } from '../vmm/vm-user.js';
import type { VmCounters, VmInfo } from './api-types.js';
import { cpuSignature } from './cpu-signature.js';
import { landlockOffer, onDemandOffer } from './host-support.js';
import { bootCold, confineVmm, prepareFiles, restore, spawnVmm, untilVmmAnswers } from './launch.js';
import { untilLoaded } from './loading.js';
import { BEHIND_SNAPSHOT_MS, type CloudHypervisorOptions, Machine } from './machine.js';
import { RebootWatch } from './reboot-watch.js';
import { saveVm } from './saving.js';
import { startFailure } from './start-failure.js';
import { findVersion } from './version.js';
import { socketArgument } from './vmm-arguments.js';

const KILL_TIMEOUT_MS = 15_000;
/** To write what it still has of a disk's tables and to end by itself. */
const SHUTDOWN_TIMEOUT_MS = 5_000;
/** A VMM that has nothing else to do answers in this time, even on a busy machine. */
const PROMPT_MS = 5_000;

/**
 * One Cloud Hypervisor process per VM, in a session and a control group of its own, inside the network namespace of its
 * sandbox, as an unprivileged user, behind seccomp and landlock. All that this class knows of a VM is on disk and in the
 * kernel, so that any worker can go on with what another one began.
 */
export class CloudHypervisor implements Hypervisor {
  readonly #locks = new KeyedMutex();
  /** Saves that this worker has under way, by id. */
  readonly #saves = new Map<string, AbortController>();
  readonly #reboots: RebootWatch;

  private constructor(
    private readonly machine: Machine,
    readonly identity: { name: string; version: string; cpu: string },
  ) {
    this.#reboots = new RebootWatch(machine, (id) => this.#endRebooted(id));
  }

  static async open(options: CloudHypervisorOptions): Promise<CloudHypervisor> {
    const { exec, vmUser, binary = 'cloud-hypervisor', warn } = options;
    const version = await findVersion(exec, binary);
    const user = await lookUpUser(exec, vmUser);
    const [onDemand, landlock] = await Promise.all([onDemandOffer(exec, user, version), landlockOffer()]);
    if (!onDemand.usable) warn?.({ reason: onDemand.why }, 'saved memory is loaded whole, not on demand');
    if (!landlock.usable) warn?.({ reason: landlock.why }, 'VMs run without landlock');
    const cpu = cpuSignature(await readFile('/proc/cpuinfo', 'utf8'));
    const identity = { name: 'cloud-hypervisor', version: version.text, cpu };
    return new CloudHypervisor(new Machine(options, { user, onDemand, landlock }), identity);
  }

  start(id: string, spec: VmSpec, signal?: AbortSignal): Promise<void> {
    return this.#locks.runExclusive(id, async () => {
      if (!isToStart(id, await this.status(id))) return;
      await this.#kill(id);
      await this.#start(id, spec, signal);
    });
  }

  async status(id: string): Promise<VmStatus> {
    const record = await this.machine.folder(id).record();
    if (record?.started !== true || !(await isAlive(record.process))) return 'absent';
    await this.#requireOwn(id, record.process);
    // The guest that this was is gone, and what the VMM booted in its place is nobody's.
    if ((await this.machine.events(id).story()).rebooted) return 'absent';
    this.#reboots.follow(id);
    try {
      return (await this.#cpus(id)) === 'running' ? 'running' : 'frozen';
    } catch (err) {
      if (!(await isAlive(record.process))) return 'absent';
      throw err;
    }
  }

  freeze(id: string, signal?: AbortSignal): Promise<void> {
    return this.#locks.runExclusive(id, async () => {
      await this.#requireVm(id);
      if ((await this.#cpus(id)) === 'running') await this.machine.api(id).pause({ signal });
    });
  }

  /** Not behind the lock: it must be able to end a save that holds it. */
  async unfreeze(id: string, signal?: AbortSignal): Promise<void> {
    await this.#requireVm(id);
    this.#saves.get(id)?.abort(new DomainError('state_conflict', `the save of ${id} was ended: its VM runs on`));
    const wait = { timeoutMs: BEHIND_SNAPSHOT_MS, signal };
    const api = this.machine.api(id);
    if ((await api.info(wait)).state === 'Running') return;
    await api.resume(wait).catch(async (err: unknown) => {
      // Refused to whoever comes second of two that saw it paused.
      if ((await this.#cpus(id)) !== 'running') throw err;
    });
    await this.#requireRunning(id);
  }

  save(id: string, file: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }> {
    return this.#locks.runExclusive(id, async () => {
      await this.#requireVm(id);
      const ended = new AbortController();
      this.#saves.set(id, ended);
      const until = AbortSignal.any([ended.signal, ...(signal === undefined ? [] : [signal])]);
      try {
        return await saveVm(this.machine, id, file, until);
      } finally {
        this.#saves.delete(id);
        await this.machine.workspace(id).dropSave();
      }
    });
  }

  async awaitMemory(id: string, signal?: AbortSignal): Promise<void> {
    const record = await this.machine.folder(id).record();
    if (record?.memory !== undefined) await untilLoaded(id, record.process, record.memory, signal);
  }

  kill(id: string): Promise<void> {
    this.#saves.get(id)?.abort(new DomainError('state_conflict', `the save of ${id} was ended: its VM is killed`));
    return this.#locks.runExclusive(id, () => this.#kill(id));
  }

  consoleLog(id: string, maxBytes: number): Promise<string> {
    return this.machine.consoles.tail(id, maxBytes);
  }

  /** To be called now and then: a guest can print, and make events, without end. */
  async trimConsoles(): Promise<void> {
    await this.machine.consoles.trim();
    for (const id of await VmFolder.list(this.machine.options.runDir)) await this.machine.events(id).trim();
  }

  async list(): Promise<string[]> {
    const { runDir } = this.machine.options;
    const living = await matchesInArguments(VmFolder.socketArgument(runDir, 'cloud-hypervisor'));
    return [...new Set([...(await VmFolder.list(runDir)), ...living])];
  }

  /** What the VMM says of the VM and its devices. */
  async info(id: string): Promise<VmInfo> {
    await this.#requireVm(id);
    return this.machine.api(id).info();
  }

  async counters(id: string): Promise<VmCounters> {
    await this.#requireVm(id);
    return this.machine.api(id).counters();
  }

  /** Asks the guest to give back this much of its memory; less than before returns some. It does so in its own time. */
  async balloon(id: string, bytes: number): Promise<void> {
    await this.#requireVm(id);
    await this.machine.api(id).resize({ desired_balloon: bytes });
  }

  async #start(id: string, spec: VmSpec, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const folder = this.machine.folder(id);
    const undo = new UndoStack();
    undo.push(`VM ${id}`, () => this.#kill(id));
    try {
      await prepareFiles(this.machine, id, spec);
      const process = await spawnVmm(this.machine, id, spec);
      let record: VmRecord = { process, started: false };
      await folder.setRecord(record);
      await confineVmm(this.machine, id, process.pid, spec);
      await untilVmmAnswers(this.machine, id, process, signal);
      const { memoryFile } = spec;
      if (memoryFile === undefined) {
        await bootCold(this.machine, id, spec, signal);
      } else {
        const onReading = (memory: NonNullable<VmRecord['memory']>): Promise<void> =>
          folder.setRecord((record = { ...record, memory }));
        await restore(this.machine, id, { ...spec, memoryFile }, onReading, signal);
      }
      await this.#requireRunning(id);
      await folder.setRecord({ ...record, started: true });
      this.#reboots.follow(id);
    } catch (err) {
      const log = await folder.logTail();
      throw await undo.unwind(signal?.aborted === true ? err : startFailure(id, spec, err, log));
    }
  }

  async #kill(id: string): Promise<void> {
    const folder = this.machine.folder(id);
    this.#reboots.forget(id);
    const record = await this.#ownRecord(id);
    if (record?.started === true) await this.#shutDown(id, record.process);
    // A worker that died between starting the process and writing that down leaves only the process's arguments.
    const processes = record === undefined ? await findByArgument(folder.control) : [record.process];
    for (const process of processes) await killProcess(process, KILL_TIMEOUT_MS);
    await this.machine.cgroup(id).remove();
    await folder.remove();
    await this.machine.workspace(id).remove();
  }

  /** Of a process that is this VM as far as the kernel knows; one that cannot be read says as little as none. */
  async #ownRecord(id: string): Promise<VmRecord | undefined> {
    const record = await this.machine
      .folder(id)
      .record()
      .catch(() => undefined);
    return record !== undefined && (await this.#isOwn(id, record.process)) ? record : undefined;
  }

  /** By the time of its turn, another VM may have been started in the place of that one. */
  #endRebooted(id: string): Promise<void> {
    return this.#locks.runExclusive(id, async () => {
      if ((await this.machine.events(id).story()).rebooted) await this.#kill(id);
    });
  }

  /** Lets the VMM end by itself, if it does so soon; whatever keeps it from that ends with the process. */
  async #shutDown(id: string, process: ProcessIdentity): Promise<void> {
    if (!(await isAlive(process))) return;
    const deadline = Date.now() + SHUTDOWN_TIMEOUT_MS;
    try {
      await this.machine.api(id).shutdown({ timeoutMs: SHUTDOWN_TIMEOUT_MS });
    } catch (err) {
      this.machine.warn({ sandboxId: id, err }, 'the VMM does not shut down; its process is killed');
      return;
    }
    for (let pause = 1; Date.now() < deadline && (await isAlive(process)); pause = Math.min(pause * 2, 25)) {
      await delay(pause);
    }
  }

  /**
   * Of the virtual CPUs. A VMM that writes the memory of its guest answers nobody until that is done; what it last said
   * of itself holds meanwhile.
   */
  async #cpus(id: string): Promise<'running' | 'paused'> {
    const api = this.machine.api(id);
    const { state } = await api.info({ timeoutMs: PROMPT_MS }).catch(async (err: unknown) => {
      if (!(err instanceof DomainError && err.code === 'timeout')) throw err;
      const { cpus } = await this.machine.events(id).story();
      return cpus === 'paused' ? { state: 'Paused' as const } : api.info();
    });
    if (state === 'Running' || state === 'Paused') return state === 'Running' ? 'running' : 'paused';
    throw new DomainError('command_failed', `the VM of ${id} is in state ${state}, which nobody has put it in`);
  }

  async #requireRunning(id: string): Promise<void> {
    if ((await this.#cpus(id)) === 'running') return;
    throw new DomainError('command_failed', `the VM of ${id} does not run, although it was told to`);
  }

  async #requireVm(id: string): Promise<void> {
    const record = await this.machine.folder(id).record();
    if (record?.started === true && (await isAlive(record.process)) && (await this.#isOwn(id, record.process))) return;
    throw new DomainError('not_found', `${id} has no running VM on this host`);
  }

  /** The kernel's word on whose socket a process serves: its folder may have been another VM's. */
  async #isOwn(id: string, process: ProcessIdentity): Promise<boolean> {
    const argv = await argumentsOf(process.pid);
    // One that has ended has none any more.
    if (argv === undefined || argv.every((arg) => arg === '')) return true;
    return argv.includes(socketArgument(this.machine.folder(id).control));
  }

  async #requireOwn(id: string, process: ProcessIdentity): Promise<void> {
    if (await this.#isOwn(id, process)) return;
    throw new DomainError(
      'command_failed',
      `process ${process.pid}, which is recorded as the VM of ${id}, is not; see \`ps -fp ${process.pid}\``,
    );
  }
}
