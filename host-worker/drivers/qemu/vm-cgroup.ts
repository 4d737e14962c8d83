import { access, constants, mkdir, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../../errno.js';

const ROOT = '/sys/fs/cgroup';
/** Threads of the VMM beside one per virtual CPU: its main loop, I/O, migration. */
const SPARE_THREADS = 128;

/**
 * A control group per VM: a limit for what a runaway VMM can take, and a life of its
 * own, because a service manager that stops the worker ends everything in its group.
 * Where groups cannot be made the VM runs without.
 */
export class VmCgroup {
  readonly #name: string;

  constructor(id: string) {
    this.#name = `torpor/${id}`;
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
      await this.remove();
      return err instanceof Error ? err.message : String(err);
    }
  }

  /** After the process has ended; the kernel may take a moment to notice. */
  async remove(): Promise<void> {
    for (const hierarchy of [ROOT, join(ROOT, 'memory'), join(ROOT, 'pids')]) {
      const path = join(hierarchy, this.#name);
      for (let attempt = 0; attempt < 50; attempt += 1) {
        try {
          await rmdir(path);
          break;
        } catch (err) {
          if (!hasErrno(err, 'EBUSY')) break;
          await delay(10);
        }
      }
    }
  }

  /** Controllers must be handed down level by level. */
  async #prepareVersion2(): Promise<void> {
    await mkdir(join(ROOT, 'torpor'), { recursive: true });
    for (const dir of [ROOT, join(ROOT, 'torpor')]) {
      await writeFile(join(dir, 'cgroup.subtree_control'), '+memory +pids');
    }
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
