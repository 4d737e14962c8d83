import { access, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { BuildArtefact } from '../activities/host/contract.js';
import type { BuildStore, DiskBase } from '../activities/host/ports.js';
import { DomainError } from '../workflows/contract/errors.js';
import { currentBoot } from './boot-id.js';
import { removeTree, renameDurably, storageFailure, syncPath, writeDurably } from './durable-file.js';
import { isAbsent } from './errno.js';
import { checkedId, makeDirectory, namesIn } from './sandbox-folder.js';
import {
  type MemoryFacts,
  type MemoryOrigin,
  MemoryVerifier,
  corrupt,
  memoryFacts,
  readManifest,
  sealMemory,
  writeManifest,
} from './saved-memory.js';

const VERSION = 1;
const PARTIAL = '.partial';
/** In which boot of the machine the build was begun. */
const BEGUN = 'begun-in-boot';

interface Manifest {
  version: typeof VERSION;
  artefact: BuildArtefact;
  disk: { file: string; format: DiskBase['format'] };
  memory: MemoryFacts;
}

/**
 * `<dataDir>/templates/<buildId>/{memory,disk,manifest.json}`. Unlike a snapshot, an
 * unfinished one is kept for the retry: the build's disk is moved into it, and when the
 * worker dies after that, this is the only place where it still is.
 */
export class FileBuildStore implements BuildStore {
  readonly #root: string;
  readonly #verifier: MemoryVerifier;

  constructor(private readonly options: { dataDir: string; hypervisor: MemoryOrigin }) {
    this.#root = join(options.dataDir, 'templates');
    this.#verifier = new MemoryVerifier(options.hypervisor);
  }

  async save(
    buildId: string,
    write: (paths: {
      memoryFile: string;
      diskFile: string;
    }) => Promise<BuildArtefact & { disk: DiskBase; sha256: string }>,
    signal?: AbortSignal,
  ): Promise<BuildArtefact> {
    const final = this.#directory(buildId);
    const existing = await manifestIn(final);
    if (existing !== undefined) return existing.artefact;
    const partial = `${final}${PARTIAL}`;
    try {
      signal?.throwIfAborted();
      // Others may enter but not list: the VMM's user opens the disk below, as the base of its own.
      await makeDirectory(partial, 0o711);
      for (const path of [dirname(partial), dirname(this.#root)]) await syncPath(path);
      const bootId = await bootOf(partial);
      const { disk, sha256, ...artefact } = await write({
        memoryFile: join(partial, 'memory'),
        diskFile: join(partial, 'disk'),
      });
      signal?.throwIfAborted();
      const manifest = await this.#manifest(partial, artefact, disk, { sha256, bootId });
      await writeManifest(join(partial, 'manifest.json'), manifest);
      await renameDurably(partial, final);
      return artefact;
    } catch (err) {
      throw storageFailure(err, `publishing build ${buildId}`);
    }
  }

  async find(buildId: string): Promise<{ disk: DiskBase; artefact: BuildArtefact }> {
    const { directory, manifest } = await this.#published(buildId);
    const disk = { path: join(directory, manifest.disk.file), format: manifest.disk.format };
    await requireDisk(disk.path);
    return { disk, artefact: manifest.artefact };
  }

  async memoryFile(buildId: string): Promise<string> {
    const { directory, manifest } = await this.#published(buildId);
    const file = join(directory, 'memory');
    await this.#verifier.require(file, manifest.memory);
    return file;
  }

  async delete(buildId: string): Promise<void> {
    const final = this.#directory(buildId);
    for (const path of [final, `${final}${PARTIAL}`]) await removeTree(path);
  }

  /** Builds that are published or were begun. */
  async list(): Promise<string[]> {
    const names = await namesIn(this.#root);
    return [...new Set(names.map((name) => (name.endsWith(PARTIAL) ? name.slice(0, -PARTIAL.length) : name)))];
  }

  async unfinished(): Promise<string[]> {
    const names = await namesIn(this.#root);
    return names.filter((name) => name.endsWith(PARTIAL)).map((name) => name.slice(0, -PARTIAL.length));
  }

  async deleteUnfinished(buildId: string): Promise<void> {
    await removeTree(`${this.#directory(buildId)}${PARTIAL}`);
  }

  async #manifest(
    partial: string,
    artefact: BuildArtefact,
    disk: DiskBase,
    { sha256, bootId }: { sha256: string; bootId: string },
  ): Promise<Manifest> {
    if (dirname(disk.path) !== partial) throw new Error(`the disk of a build must be in ${partial}, not ${disk.path}`);
    await requireDisk(disk.path);
    const written = await memoryFacts({ bytes: artefact.memoryBytes, sha256 }, this.options.hypervisor);
    const memory = { ...written, bootId };
    await this.#verifier.require(join(partial, 'memory'), memory);
    await sealMemory(join(partial, 'memory'));
    return { version: VERSION, artefact, disk: { file: basename(disk.path), format: disk.format }, memory };
  }

  async #published(buildId: string): Promise<{ directory: string; manifest: Manifest }> {
    const directory = this.#directory(buildId);
    const manifest = await manifestIn(directory);
    if (manifest !== undefined) return { directory, manifest };
    throw new DomainError('not_found', `build ${buildId} is not on this host: there is no ${directory}`);
  }

  #directory(buildId: string): string {
    return join(this.#root, checkedId(buildId));
  }
}

async function manifestIn(directory: string): Promise<Manifest | undefined> {
  const path = join(directory, 'manifest.json');
  const manifest = await readManifest<Manifest>(path, VERSION);
  if (manifest === undefined) return undefined;
  const { artefact, disk } = manifest as Partial<Manifest>;
  // The name becomes part of a path.
  if (artefact !== undefined && disk !== undefined && disk.file === basename(disk.file)) return manifest;
  throw corrupt(path, 'it does not tell of a disk beside it');
}

/**
 * The boot of the machine in which this build was begun. Its memory may have been written
 * by an attempt before a crash of the machine, and then its checksum must be compared.
 */
async function bootOf(partial: string): Promise<string> {
  const path = join(partial, BEGUN);
  try {
    return await readFile(path, 'utf8');
  } catch (err) {
    if (!isAbsent(err)) throw err;
  }
  const bootId = await currentBoot();
  await writeDurably(path, bootId);
  return bootId;
}

async function requireDisk(path: string): Promise<void> {
  try {
    await access(path);
  } catch (cause) {
    throw corrupt(path, 'the disk that belongs to this saved memory is missing', cause);
  }
}
