import { randomBytes } from 'node:crypto';
import { chown, lstat, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';
import { checkedId, idsIn } from '../../sandbox-folder.js';
import type { ProcessIdentity } from './vm-process.js';
import type { VmUser } from './vm-user.js';

/** What a worker must know of a VM that another one started. */
export interface VmRecord {
  process: ProcessIdentity;
  /** Its virtual CPUs have run; without it the VM is half-started. */
  started: boolean;
  /** The file of saved memory that it may still be reading, by what no renaming changes. */
  memory?: { dev: number; ino: number };
}

/** Whose VM it is: each has its sockets under its own name, so that a host can change its driver. */
export type VmmName = 'qemu' | 'cloud-hypervisor';

const RECORD = 'vm.json';
/** Longest path of a unix socket, less the final zero. */
const MAX_SOCKET_PATH = 107;

/**
 * Run files of one VM, in `<runDir>/vms/<id>`. The folder is the worker's; the VMM can
 * write only to its subfolder of sockets, so that a VMM taken over by its guest cannot
 * make the worker believe that some other process is the VM.
 */
export class VmFolder {
  readonly path: string;
  readonly #sockets: string;

  constructor(
    runDir: string,
    private readonly id: string,
    private readonly vmm: VmmName = 'qemu',
  ) {
    this.path = join(runDir, 'vms', checkedId(id));
    this.#sockets = join(this.path, vmm);
  }

  static list(runDir: string): Promise<string[]> {
    return idsIn(join(runDir, 'vms'));
  }

  /** Matches the argument that names a VM's socket, its id first: how one is found whose folder somebody deleted. */
  static socketArgument(runDir: string, vmm: VmmName = 'qemu'): RegExp {
    const vms = join(runDir, 'vms').replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
    return new RegExp(`path=${vms}/([^/]+)/${vmm}/control`);
  }

  get control(): string {
    return join(this.#sockets, 'control');
  }

  get query(): string {
    return join(this.#sockets, 'query');
  }

  get save(): string {
    return join(this.path, 'save');
  }

  get log(): string {
    return join(this.path, `${this.vmm}.log`);
  }

  /** What the VMM says of itself as it goes along. */
  get events(): string {
    return join(this.path, 'events');
  }

  async create(owner: VmUser): Promise<void> {
    if (this.control.length > MAX_SOCKET_PATH) {
      throw new DomainError('invalid_request', `the run directory is too long for a socket in it: ${this.control}`);
    }
    await mkdir(this.path, { recursive: true, mode: 0o711 });
    await mkdir(this.#sockets, { mode: 0o700 });
    await chown(this.#sockets, owner.uid, owner.gid);
  }

  async exists(): Promise<boolean> {
    return lstat(this.path).then(
      () => true,
      () => false,
    );
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }

  async record(): Promise<VmRecord | undefined> {
    const path = join(this.path, RECORD);
    try {
      return JSON.parse(await readFile(path, 'utf8')) as VmRecord;
    } catch (err) {
      if (hasErrno(err, 'ENOENT')) return undefined;
      throw new DomainError(
        'command_failed',
        `${path}, which tells the process of VM ${this.id}, cannot be read; see \`pgrep -fa ${this.control}\` for the process`,
        {},
        { cause: err },
      );
    }
  }

  /** Not synced: it describes a process, which a crash of the machine ends as well. */
  async setRecord(record: VmRecord): Promise<void> {
    const temporary = join(this.path, `.${randomBytes(6).toString('hex')}`);
    await writeFile(temporary, JSON.stringify(record));
    await rename(temporary, join(this.path, RECORD));
  }

  /** The last lines the VMM printed: why it ended. */
  async logTail(): Promise<string> {
    try {
      return (await readFile(this.log, 'utf8')).trim().split('\n').slice(-5).join('; ');
    } catch (err) {
      if (hasErrno(err, 'ENOENT')) return '';
      throw err;
    }
  }
}

/** The last bytes of a file that grows. */
export async function readTail(path: string, maxBytes: number): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const length = Math.min(size, maxBytes);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
