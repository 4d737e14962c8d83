import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { hasErrno, isAbsent } from '../../errno.js';
import { CommandError, type Exec } from '../../exec.js';

const COLUMNS = 'NAME,BACK-FILE,RO,AUTOCLEAR,OFFSET,SIZELIMIT,MAJ:MIN';
/** What the kernel appends to the path of a file that has lost its name. */
const DELETED = / \(deleted\)$/;

export interface LoopDevice {
  /** `/dev/loop7` */
  device: string;
  /** `7:7`, as tables of device-mapper name it. */
  number: string;
  /** The file behind it, by the path that it has or had. */
  file: string;
  deleted: boolean;
  readOnly: boolean;
  /** The kernel detaches it as soon as nobody has it open. */
  autoclear: boolean;
  offset: number;
  /** How many bytes of the file it shows; 0 for all there are, also of those that come later. */
  sizeLimit: number;
}

/** The only place that runs `losetup`. */
export class Losetup {
  constructor(
    private readonly exec: Exec,
    private readonly sysBlock: string,
  ) {}

  /** All that are attached, whoever did that. */
  async list(): Promise<LoopDevice[]> {
    return parseLoops((await this.exec.run(['losetup', '--json', '--list', '--output', COLUMNS])).stdout);
  }

  /** Returns the device, of which there may be several for one file. */
  async attach(file: string, signal?: AbortSignal): Promise<string> {
    return this.#attach([file], signal);
  }

  async attachReadOnly(file: string, sizeLimit: number, signal?: AbortSignal): Promise<string> {
    return this.#attach(['--read-only', '--sizelimit', String(sizeLimit), file], signal);
  }

  /**
   * At once where nobody has them open; else the kernel does it when the last one closes them. Together with what
   * opens them this is a reference count that no crash can lose.
   */
  async detach(devices: readonly string[]): Promise<void> {
    if (devices.length === 0) return;
    try {
      await this.exec.run(['losetup', '--detach', ...devices]);
    } catch (err) {
      if (!onlyAbsent(err)) throw err;
    }
  }

  /** After the file has become larger. */
  async setCapacity(device: string): Promise<void> {
    await this.exec.run(['losetup', '--set-capacity', device]);
  }

  /** What a device shows at this moment; a look at the kernel that costs no process. */
  async fileBehind(device: string): Promise<string | undefined> {
    try {
      const path = await readFile(join(this.sysBlock, basename(device), 'loop', 'backing_file'), 'utf8');
      return path.trimEnd().replace(DELETED, '');
    } catch (err) {
      // Of a device that is being detached the file can be opened but not read.
      if (isAbsent(err) || hasErrno(err, 'ENXIO') || hasErrno(err, 'ENODEV')) return undefined;
      throw err;
    }
  }

  async #attach(args: string[], signal: AbortSignal | undefined): Promise<string> {
    return (await this.exec.run(['losetup', '--find', '--show', ...args], { signal })).stdout.trim();
  }
}

/** Somebody may have detached them in the meantime. */
function onlyAbsent(err: unknown): boolean {
  if (!(err instanceof CommandError) || err.exitCode === null) return false;
  const lines = err.stderr.trim().split('\n');
  return lines.every((line) => /No such device or address|No such file or directory/.test(line));
}

interface LoopsJson {
  loopdevices: {
    name: string;
    'back-file': string | null;
    ro: boolean | string;
    autoclear: boolean | string;
    offset: number | string;
    sizelimit: number | string;
    'maj:min': string;
  }[];
}

/** Where there is none, some versions print an empty list and some print nothing. */
export function parseLoops(json: string): LoopDevice[] {
  if (json.trim() === '') return [];
  // Older versions write every value as a string.
  const yes = (value: boolean | string): boolean => value === true || value === '1';
  return (JSON.parse(json) as LoopsJson).loopdevices.map((loop) => ({
    device: loop.name,
    number: loop['maj:min'].trim(),
    file: (loop['back-file'] ?? '').replace(DELETED, ''),
    deleted: DELETED.test(loop['back-file'] ?? ''),
    readOnly: yes(loop.ro),
    autoclear: yes(loop.autoclear),
    offset: Number(loop.offset),
    sizeLimit: Number(loop.sizelimit),
  }));
}
