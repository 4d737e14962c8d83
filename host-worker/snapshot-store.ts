import { dirname, join } from 'node:path';
import type { SnapshotInfo } from '../activities/host/contract.js';
import type { SnapshotStore } from '../activities/host/ports.js';
import { DomainError } from '../workflows/contract/errors.js';
import { removeTree, renameDurably, storageFailure, syncPath } from './durable-file.js';
import { SandboxFolders, makeDirectory, namesIn } from './sandbox-folder.js';
import {
  type MemoryFacts,
  type MemoryOrigin,
  MemoryVerifier,
  memoryFacts,
  readManifest,
  sealMemory,
  writeManifest,
} from './saved-memory.js';

const VERSION = 1;
const PARTIAL = '.partial';

interface Manifest {
  version: typeof VERSION;
  generation: number;
  frozenMs: number;
  memory: MemoryFacts;
}

/**
 * `<dataDir>/sandboxes/<id>/snapshots/<generation>/{memory,manifest.json}`. A directory
 * under its final name is complete; everything else ends in `.partial`.
 */
export class FileSnapshotStore implements SnapshotStore {
  readonly #folders: SandboxFolders;
  readonly #verifier: MemoryVerifier;

  constructor(private readonly options: { dataDir: string; hypervisor: MemoryOrigin }) {
    this.#folders = new SandboxFolders(options.dataDir);
    this.#verifier = new MemoryVerifier(options.hypervisor);
  }

  async save(
    id: string,
    generation: number,
    write: (memoryFile: string) => Promise<{ bytes: number; sha256: string; frozenMs: number }>,
    signal?: AbortSignal,
  ): Promise<SnapshotInfo> {
    const final = this.#directory(id, generation);
    const existing = await this.#manifest(id, generation);
    if (existing !== undefined) return toInfo(existing);
    const partial = `${final}${PARTIAL}`;
    try {
      signal?.throwIfAborted();
      await this.#makePartial(id, partial);
      const written = await write(join(partial, 'memory'));
      signal?.throwIfAborted();
      const memory = await memoryFacts(written, this.options.hypervisor);
      const manifest: Manifest = { version: VERSION, generation, frozenMs: written.frozenMs, memory };
      await this.#verifier.require(join(partial, 'memory'), memory);
      await sealMemory(join(partial, 'memory'));
      await writeManifest(join(partial, 'manifest.json'), manifest);
      await renameDurably(partial, final);
      return toInfo(manifest);
    } catch (err) {
      // What cannot be removed now goes with the next sweep; why nothing was saved matters more.
      await removeTree(partial).catch(() => undefined);
      throw storageFailure(err, `saving snapshot ${generation} of ${id}`);
    }
  }

  async memoryFile(id: string, generation: number): Promise<string> {
    const manifest = await this.#manifest(id, generation);
    const path = join(this.#directory(id, generation), 'memory');
    if (manifest === undefined) {
      throw new DomainError(
        'not_found',
        `${id} has no complete snapshot ${generation} on this host: there is no ${path}`,
      );
    }
    await this.#verifier.require(path, manifest.memory);
    return path;
  }

  async delete(id: string, generation: number): Promise<void> {
    const final = this.#directory(id, generation);
    for (const path of [final, `${final}${PARTIAL}`]) await removeTree(path);
  }

  /** The end of a sandbox: whatever is left in its folder goes too, its console log among it. */
  async deleteAll(id: string): Promise<void> {
    await removeTree(this.#folders.path(id));
  }

  /** Every sandbox with a folder on this host, for `deleteAll` removes just that. */
  list(): Promise<string[]> {
    return this.#folders.list();
  }

  /** One whose manifest cannot be trusted is none; its files stay for whoever looks. */
  async generations(id: string): Promise<number[]> {
    const complete: number[] = [];
    for (const generation of (await this.#names(id)).filter((name) => /^\d+$/.test(name)).map(Number)) {
      const manifest = await this.#manifest(id, generation).catch((err: unknown) => {
        if (err instanceof DomainError && err.code === 'snapshot_corrupt') return undefined;
        throw err;
      });
      if (manifest !== undefined) complete.push(generation);
    }
    return complete.toSorted((one, other) => one - other);
  }

  async deleteUnfinished(id: string): Promise<void> {
    const unfinished = (await this.#names(id)).filter((name) => name.endsWith(PARTIAL));
    for (const name of unfinished) await removeTree(join(this.#folders.path(id), 'snapshots', name));
  }

  #names(id: string): Promise<string[]> {
    return namesIn(join(this.#folders.path(id), 'snapshots'));
  }

  async #makePartial(id: string, partial: string): Promise<void> {
    await removeTree(partial);
    const folder = await this.#folders.ensure(id);
    await makeDirectory(partial, 0o700);
    // The names above the snapshot must survive a crash as well as those in it.
    for (const path of [dirname(partial), folder, this.#folders.root]) await syncPath(path);
  }

  #manifest(id: string, generation: number): Promise<Manifest | undefined> {
    return readManifest<Manifest>(join(this.#directory(id, generation), 'manifest.json'), VERSION);
  }

  #directory(id: string, generation: number): string {
    return join(this.#folders.path(id), 'snapshots', String(generation));
  }
}

function toInfo(manifest: Manifest): SnapshotInfo {
  return { generation: manifest.generation, memoryBytes: manifest.memory.bytes, frozenMs: manifest.frozenMs };
}
