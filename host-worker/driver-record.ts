import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DISKS, type DriverWishes, HYPERVISORS, type DiskName, type HypervisorName } from './driver-choice.js';
import { writeDurably } from './durable-file.js';
import { hasErrno } from './errno.js';
import { SandboxFolders } from './sandbox-folder.js';

const FILE = 'drivers.json';
/** All there was before anything was recorded. */
const UNRECORDED: Recorded = { hypervisor: 'qemu', disk: 'qcow2' };

interface Recorded {
  hypervisor: HypervisorName;
  disk: DiskName;
}

/**
 * What the sandboxes of this machine were made with. A VM and its disk belong to one pair of
 * drivers: where a package that was installed since would lead to another choice, the worker would
 * take everything that lives for dead. So as long as there are sandboxes, `auto` means what it meant.
 */
export class DriverRecord {
  readonly #file: string;

  constructor(private readonly dataDir: string) {
    this.#file = join(dataDir, FILE);
  }

  /** The wishes, with those of the record in the place of `auto` where sandboxes depend on it. */
  async settle(wishes: DriverWishes): Promise<DriverWishes> {
    const recorded = await this.#read();
    if (recorded === undefined || (await new SandboxFolders(this.dataDir).list()).length === 0) return wishes;
    return {
      ...wishes,
      hypervisor: wishes.hypervisor === 'auto' ? recorded.hypervisor : wishes.hypervisor,
      disk: wishes.disk === 'auto' ? recorded.disk : wishes.disk,
    };
  }

  async write(hypervisor: string, disk: string): Promise<void> {
    const now = { hypervisor, disk };
    const before = await this.#read();
    if (before?.hypervisor === hypervisor && before.disk === disk) return;
    await writeDurably(this.#file, `${JSON.stringify(now)}\n`);
  }

  /** Undefined for anything that is not whole: then there is nothing to stick to. */
  async #read(): Promise<Recorded | undefined> {
    try {
      const { hypervisor, disk } = JSON.parse(await readFile(this.#file, 'utf8')) as Partial<Recorded>;
      const known = HYPERVISORS.find((name) => name === hypervisor);
      const kind = DISKS.find((name) => name === disk);
      return known === undefined || kind === undefined ? undefined : { hypervisor: known, disk: kind };
    } catch (err) {
      if (hasErrno(err, 'ENOENT')) return UNRECORDED;
      if (err instanceof SyntaxError) return undefined;
      throw err;
    }
  }
}
