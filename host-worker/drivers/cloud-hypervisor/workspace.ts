import { constants } from 'node:fs';
import { chmod, chown, link, lstat, mkdir, open, readFile, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { removeTree, storageFailure, syncPath } from '../../durable-file.js';
import { hasErrno, isAbsent } from '../../errno.js';
import type { Exec } from '../../exec.js';
import { corrupt } from '../../saved-memory.js';
import type { VmUser } from '../vmm/vm-user.js';
import { withStandingClock } from './saved-clock.js';
import { type SavedConfig, parseSavedConfig } from './vm-config.js';

/** What the VMM writes of one VM, and reads of it again. */
const CONFIG = 'config.json';
const MEMORY = 'memory-ranges';
const STATE = 'state.json';
/** Of what reads or writes all of a guest's memory; beyond this something hangs. */
const LONG_MS = 10 * 60_000;

/** A file by what no renaming changes. */
export interface FileIdentity {
  dev: number;
  ino: number;
}

/**
 * The one directory that a VMM may write to, in its sandbox's folder. It writes saved memory here, which is then moved to
 * where it belongs; and it finds saved memory here that it is to load, under a second name for the same file. So it need
 * not be let into the directories where saved memory is kept, of which it would then see all.
 */
export class Workspace {
  readonly #saving: string;
  readonly #restoring: string;

  constructor(
    readonly path: string,
    private readonly user: VmUser,
    private readonly exec: Exec,
  ) {
    this.#saving = join(path, 'saving');
    this.#restoring = join(path, 'restoring');
  }

  async create(): Promise<void> {
    await this.remove();
    await this.#makeOwn(this.path);
  }

  async remove(): Promise<void> {
    await removeTree(this.path);
  }

  /**
   * Lays the saved memory out for the VMM. Returns the directory to name to it, what it will read from, and whether the
   * guest's clock goes on where it stood.
   */
  async layOut(
    memoryFile: string,
    adopt: (saved: SavedConfig) => SavedConfig,
  ): Promise<{ directory: string; memory: FileIdentity; clockStands: boolean }> {
    const { config, state } = await readSaved(memoryFile);
    const standing = withStandingClock(state);
    await removeTree(this.#restoring);
    await mkdir(this.#restoring, { mode: 0o755 });
    await this.#share(join(memoryFile, MEMORY), join(this.#restoring, MEMORY));
    await this.#write(CONFIG, JSON.stringify(adopt(config)));
    await this.#write(STATE, standing ?? state);
    const { dev, ino } = await stat(join(this.#restoring, MEMORY));
    return { directory: this.#restoring, memory: { dev, ino }, clockStands: standing !== undefined };
  }

  /** Once the VMM has opened them the names are not needed; what it still reads stays until it closes it. */
  async clearAway(): Promise<void> {
    await removeTree(this.#restoring);
  }

  /** An empty directory for the VMM to save into. */
  async prepareSave(): Promise<string> {
    await removeTree(this.#saving);
    await this.#makeOwn(this.#saving);
    return this.#saving;
  }

  async dropSave(): Promise<void> {
    await removeTree(this.#saving);
  }

  /**
   * What was saved becomes root's own, complete and on stable storage, at `file`. `filled`: of a VM that was itself
   * restored on demand. Loading fills every page of it, with zeroes too, and they are not to be written to the disk.
   */
  async handOver(file: string, { filled }: { filled: boolean }): Promise<void> {
    await this.#move(file);
    // From here on the VMM cannot get to it any more, whatever its guest has made of it.
    await chown(file, 0, 0);
    await chmod(file, 0o700);
    const names = (await readdir(file)).toSorted();
    if (names.join() !== [CONFIG, MEMORY, STATE].join()) {
      throw new DomainError('command_failed', `Cloud Hypervisor saved other files than expected: ${names.join(', ')}`);
    }
    const files = names.map((name) => join(file, name));
    for (const path of files) await takeOver(path);
    if (filled) await this.exec.run(['fallocate', '--dig-holes', join(file, MEMORY)], { timeoutMs: LONG_MS });
    await readSaved(file);
    for (const path of [...files, file]) await syncPath(path);
    await syncPath(dirname(file));
  }

  /** For the VMM to read, and nobody else. */
  async #write(name: string, text: string): Promise<void> {
    const path = join(this.#restoring, name);
    await writeFile(path, text, { mode: 0o440 });
    await chown(path, 0, this.user.gid);
  }

  /** A second name for one file; across file systems, where there is no such thing, a copy without the zeroes. */
  async #share(from: string, to: string): Promise<void> {
    await chown(from, 0, this.user.gid);
    await chmod(from, 0o440);
    try {
      await link(from, to);
    } catch (err) {
      if (!hasErrno(err, 'EXDEV')) throw err;
      await this.#copy(from, to);
    }
  }

  /** To a name that nothing has; what an attempt before this one left under it is replaced. */
  async #move(file: string): Promise<void> {
    await removeTree(file);
    try {
      await rename(this.#saving, file);
    } catch (err) {
      if (!hasErrno(err, 'EXDEV')) throw storageFailure(err, `writing ${file}`);
      await this.#copy(this.#saving, file);
      await removeTree(this.#saving);
    }
  }

  async #copy(from: string, to: string): Promise<void> {
    try {
      // As they are, so that a link that the VMM may have made is seen to be one.
      const argv = ['cp', '--recursive', '--no-dereference', '--preserve=mode', '--sparse=always', from, to];
      await this.exec.run(argv, { timeoutMs: LONG_MS });
    } catch (err) {
      await removeTree(to);
      throw storageFailure(err, `writing ${to}`);
    }
  }

  async #makeOwn(path: string): Promise<void> {
    await mkdir(path, { mode: 0o700 });
    await chown(path, this.user.uid, this.user.gid);
  }
}

interface Saved {
  config: SavedConfig;
  /** What the VMM needs to know beside it. */
  state: string;
}

/** What was saved with memory that is whole as far as its form tells; on demand, the VMM itself notices too late. */
async function readSaved(directory: string): Promise<Saved> {
  const [text, state, memory] = await readParts(directory);
  const config = parseSavedConfig(text);
  if (config === undefined) throw corrupt(directory, `its ${CONFIG} is not that of such a VM`);
  if (!isJson(state)) throw corrupt(directory, `its ${STATE} is torn`);
  if (memory !== config.memory.size) {
    throw corrupt(directory, `its ${MEMORY} has ${memory} bytes, for a guest with ${config.memory.size}`);
  }
  return { config, state };
}

async function readParts(directory: string): Promise<[config: string, state: string, memoryBytes: number]> {
  try {
    const [config, state] = [join(directory, CONFIG), join(directory, STATE)];
    const memory = await lstat(join(directory, MEMORY));
    return [await readFile(config, 'utf8'), await readFile(state, 'utf8'), memory.size];
  } catch (err) {
    if (!isAbsent(err)) throw err;
    throw corrupt(directory, 'it is not a directory with memory that Cloud Hypervisor saved', err);
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Never through a link, which would give away a file of root's. */
async function takeOver(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    if (!(await handle.stat()).isFile()) throw new DomainError('command_failed', `${path} is no file`);
    await handle.chown(0, 0);
    await handle.chmod(0o600);
  } finally {
    await handle.close();
  }
}
