import { access, constants, mkdir, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';

const ROOT = '/sys/fs/cgroup';
/** Threads of the VMM beside one per virtual CPU: its main loop, I/O, migration. */
const SPARE_THREADS = 128;
const REMOVE_ATTEMPTS = 500;
const REMOVE_PAUSE_MS = 10;

/** Where VMs have their groups unless a service manager gave us a place of our own. */
export const DEFAULT_VM_CGROUP = 'torpor';

/**
 * A control group per VM: a limit for what a runaway VMM can take, and a life of its
 * own, because a service manager that stops the worker ends everything in its group.
 * Where groups cannot be made the VM runs without.
 */
export class VmCgroup {
  readonly #name: string;

  /** `parent` is a path below the root of control groups. */
  constructor(
    id: string,
    private readonly parent: string = DEFAULT_VM_CGROUP,
  ) {
    this.#name = `${parent}/${id}`;
  }

  /** Returns why there is no group, or undefined when the process is in one. */
  async adopt(pid: number, limits: { vcpus: number; memoryMb: number }): Promise<string | undefined> {
    const bytes = String(limits.memoryMb * 1024 * 1024);
    const tasks = String(limits.vcpus + SPARE_THREADS);
    try {
      if (await isVersion2()) {
        await this.#prepareVersion2();
        await this.#fill(ROOT, pid, [
          ['memory.max', bytes],
          ['pids.max', tasks],
        ]);
      } else {
        await this.#fill(join(ROOT, 'memory'), pid, [['memory.limit_in_bytes', bytes]]);
        await this.#fill(join(ROOT, 'pids'), pid, [['pids.max', tasks]]);
      }
      return undefined;
    } catch (err) {
      // What holds a process by now goes with the VM.
      for (const path of this.#paths()) await rmdir(path).catch(() => undefined);
      return err instanceof Error ? err.message : String(err);
    }
  }

  /** After the process has ended; the kernel may take a moment to notice. */
  async remove(): Promise<void> {
    for (const path of this.#paths()) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          await rmdir(path);
          break;
        } catch (err) {
          if (!hasErrno(err, 'EBUSY')) break;
          if (attempt >= REMOVE_ATTEMPTS) {
            throw new DomainError(
              'command_failed',
              `the control group ${path} cannot be removed; see \`cat ${path}/cgroup.procs\` for what is left in it`,
              {},
              { cause: err },
            );
          }
          await delay(REMOVE_PAUSE_MS);
        }
      }
    }
  }

  #paths(): string[] {
    return [ROOT, join(ROOT, 'memory'), join(ROOT, 'pids')].map((hierarchy) => join(hierarchy, this.#name));
  }

  /** Controllers must be handed down level by level. A parent below others is a service manager's, who did that above it. */
  async #prepareVersion2(): Promise<void> {
    const parent = join(ROOT, this.parent);
    const ours = [ROOT, parent];
    if (dirname(parent) === ROOT) await mkdir(parent, { recursive: true });
    else ours.shift();
    for (const dir of ours) await writeFile(join(dir, 'cgroup.subtree_control'), '+memory +pids');
  }

  async #fill(hierarchy: string, pid: number, limits: [file: string, value: string][]): Promise<void> {
    await access(hierarchy, constants.W_OK);
    const path = join(hierarchy, this.#name);
    await mkdir(path, { recursive: true });
    for (const [file, value] of limits) await writeFile(join(path, file), value);
    await writeFile(join(path, 'cgroup.procs'), String(pid));
  }
}

async function isVersion2(): Promise<boolean> {
  return access(join(ROOT, 'cgroup.controllers')).then(
    () => true,
    () => false,
  );
}
