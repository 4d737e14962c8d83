import { open, readFile, realpath, rename, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { removeDurably, renameDurably, syncPath, writeDurably } from '../../durable-file.js';
import { isAbsent } from '../../errno.js';
import type { Exec } from '../../exec.js';
import { copyDurably } from '../../file-copy.js';
import { SandboxFolders, namesIn } from '../../sandbox-folder.js';

const COW = 'disk.cow';
/** What the CoW file is laid over. Written last and deleted first: without it there is no disk, only leftovers. */
const RECORD = 'disk.json';
/** The CoW file as it was when the disk was attached. Present: what was written since does not count yet. */
const POINT = 'disk.point';
/** A copy that is being made, of or from the point. */
const PARTIAL = 'disk.cow.partial';
const RECORD_VERSION = 1;

/** Of a base by its path; that it is still the same one is judged by size and time. */
export interface BaseRecord {
  path: string;
  bytes: number;
  mtimeMs: number;
}

/** The files of a disk, in the folder of its sandbox. Each change is one rename or one deletion, and durable. */
export class CowFiles {
  private constructor(
    private readonly exec: Exec,
    private readonly folders: SandboxFolders,
  ) {}

  static async open(exec: Exec, dataDir: string): Promise<CowFiles> {
    // The kernel names files by their real paths.
    return new CowFiles(exec, new SandboxFolders(await realpath(dataDir)));
  }

  get root(): string {
    return this.folders.root;
  }

  cow(id: string): string {
    return this.#file(id, COW);
  }

  /** The id whose CoW file this is. */
  idOf(file: string): string | undefined {
    const [id = '', name, ...rest] = file.startsWith(`${this.root}/`)
      ? file.slice(this.root.length + 1).split('/')
      : [];
    return name === COW && rest.length === 0 ? id : undefined;
  }

  /** Undefined where there is no disk. */
  async record(id: string): Promise<BaseRecord | undefined> {
    const path = this.#file(id, RECORD);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (err) {
      if (isAbsent(err)) return undefined;
      throw err;
    }
    const record = parseRecord(text);
    if (record !== undefined) return record;
    throw new DomainError(
      'unsupported',
      `${path} is not a record of version ${RECORD_VERSION} of a disk; see \`cat ${path}\``,
    );
  }

  /** A disk of `bytes` that differs in nothing from its base yet. */
  async make(id: string, base: BaseRecord, bytes: number): Promise<void> {
    await this.folders.ensure(id);
    await this.#removeAll(id);
    const cow = await open(this.cow(id), 'wx', 0o600);
    try {
      await cow.truncate(bytes);
      await cow.sync();
    } finally {
      await cow.close();
    }
    await writeDurably(this.#file(id, RECORD), JSON.stringify({ version: RECORD_VERSION, base }));
  }

  async hasPoint(id: string): Promise<boolean> {
    return (await namesIn(this.folders.path(id))).includes(POINT);
  }

  /** Remembers the CoW file as it is now. */
  async makePoint(id: string, signal?: AbortSignal): Promise<void> {
    await this.#copy(id, this.cow(id), this.#file(id, POINT), signal);
  }

  /** Makes the CoW file what it was, and keeps the point. */
  async returnToPoint(id: string, signal?: AbortSignal): Promise<void> {
    await this.#copy(id, this.#file(id, POINT), this.cow(id), signal);
  }

  /** Makes the CoW file what it was; there is no point afterwards. */
  async takePointBack(id: string): Promise<void> {
    if (await this.hasPoint(id)) await renameDurably(this.#file(id, POINT), this.cow(id));
  }

  async dropPoint(id: string): Promise<void> {
    await removeDurably(this.#file(id, POINT));
  }

  /** Everything written is on stable storage. */
  async sync(id: string): Promise<void> {
    await syncPath(this.cow(id));
    await syncPath(this.folders.path(id));
  }

  /** The CoW file's size; undefined where there is none. */
  async bytes(id: string): Promise<number | undefined> {
    try {
      return (await stat(this.cow(id))).size;
    } catch (err) {
      if (isAbsent(err)) return undefined;
      throw err;
    }
  }

  async grow(id: string, bytes: number): Promise<void> {
    await truncate(this.cow(id), bytes);
    await syncPath(this.cow(id));
  }

  async remove(id: string): Promise<void> {
    await rm(this.#file(id, RECORD), { force: true });
    await this.#removeAll(id);
    await this.folders.removeIfEmpty(id);
  }

  /** Of all that have any of these files. Those of another driver's disks are not ours to list. */
  async list(): Promise<string[]> {
    const ours = new Set([COW, RECORD, POINT, PARTIAL]);
    const ids: string[] = [];
    for (const id of await this.folders.list()) {
      const names = await namesIn(this.folders.path(id));
      if (names.some((name) => ours.has(name) || name.startsWith(`.${RECORD}.`))) ids.push(id);
    }
    return ids;
  }

  /** The disk that another driver has made here. */
  async foreignDisk(id: string): Promise<string | undefined> {
    const names = await namesIn(this.folders.path(id));
    const foreign = names.find((name) => name === 'disk.qcow2');
    return foreign === undefined ? undefined : this.#file(id, foreign);
  }

  async #copy(id: string, from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    const partial = this.#file(id, PARTIAL);
    await rm(partial, { force: true });
    await copyDurably(this.exec, from, partial, signal);
    await rename(partial, to);
    await syncPath(this.folders.path(id));
  }

  async #removeAll(id: string): Promise<void> {
    const temporary = (await namesIn(this.folders.path(id))).filter((name) => name.startsWith(`.${RECORD}.`));
    for (const name of [PARTIAL, POINT, COW, ...temporary]) await rm(this.#file(id, name), { force: true });
  }

  #file(id: string, name: string): string {
    return join(this.folders.path(id), name);
  }
}

function parseRecord(text: string): BaseRecord | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined;
  const { version, base } = parsed as { version?: unknown; base?: Partial<BaseRecord> };
  if (version !== RECORD_VERSION || typeof base?.path !== 'string') return undefined;
  if (typeof base.bytes !== 'number' || typeof base.mtimeMs !== 'number') return undefined;
  return { path: base.path, bytes: base.bytes, mtimeMs: base.mtimeMs };
}
