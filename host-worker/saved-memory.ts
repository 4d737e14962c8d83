import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, readFile, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { DomainError } from '../workflows/contract/errors.js';
import { currentBoot } from './boot-id.js';
import { storageFailure, writeDurably } from './durable-file.js';
import { isAbsent } from './errno.js';

const BLOCK_BYTES = 64 * 1024;
const ZEROES = Buffer.alloc(BLOCK_BYTES);

/** Which hypervisor wrote a memory file; another one, or another processor, cannot load it. */
export interface MemoryOrigin {
  name: string;
  version: string;
  cpu: string;
}

/** What a manifest says of its memory file. */
export interface MemoryFacts {
  bytes: number;
  sha256: string;
  origin: MemoryOrigin;
  /** The boot of the machine during which it was written. */
  bootId: string;
}

/** What manifests of snapshots and of builds have in common. */
export interface ManifestHead {
  version: number;
  memory: MemoryFacts;
}

export async function memoryFacts(
  written: { bytes: number; sha256: string },
  origin: MemoryOrigin,
): Promise<MemoryFacts> {
  return { bytes: written.bytes, sha256: written.sha256, origin, bootId: await currentBoot() };
}

/**
 * Decides whether saved memory, a file or a directory of files as the driver made it, may be given to a guest. Its size is compared always;
 * its checksum only once after the machine was restarted. Reading all of it would take
 * as long as the restore itself, and while the machine runs, the bytes that were hashed
 * on their way in are the ones read back; it is a crash that tears files.
 */
export class MemoryVerifier {
  readonly #verified = new Set<string>();

  constructor(private readonly host: MemoryOrigin) {}

  async require(path: string, facts: MemoryFacts): Promise<void> {
    const size = await sizeOf(path);
    if (size !== facts.bytes) {
      throw corrupt(
        path,
        size === undefined ? 'it is missing' : `it has ${size} bytes where its manifest says ${facts.bytes}`,
      );
    }
    this.#requireOrigin(path, facts.origin);
    if (facts.bootId === (await currentBoot()) || this.#verified.has(path)) return;
    const actual = await sha256Of(path);
    if (actual !== facts.sha256)
      throw corrupt(path, `its SHA-256 is ${actual} where its manifest says ${facts.sha256}`);
    this.#verified.add(path);
  }

  /** A newer version of the same hypervisor reads what an older one wrote. */
  #requireOrigin(path: string, origin: MemoryOrigin): void {
    if (origin.name === this.host.name && origin.cpu === this.host.cpu) return;
    const wrote = `${origin.name} ${origin.version} with processor ${origin.cpu}`;
    throw new DomainError(
      'snapshot_incompatible',
      `${path} was saved by ${wrote}, and this host now runs ${this.host.name} ${this.host.version} with ${this.host.cpu}, which cannot load it`,
    );
  }
}

/** A manifest, or `undefined` when there is none. One that cannot be read is as bad as a torn memory file. */
export async function readManifest<T extends ManifestHead>(
  path: string,
  version: T['version'],
): Promise<T | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (err) {
    if (isAbsent(err)) return undefined;
    throw storageFailure(err, `reading ${path}`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw corrupt(path, 'it is not JSON', cause);
  }
  if (typeof parsed !== 'object' || parsed === null) throw corrupt(path, 'it is no manifest');
  const { checksum, ...manifest } = parsed as Partial<T> & { checksum?: unknown };
  if (manifest.version !== version) throw corrupt(path, `it is not a manifest of version ${version}`);
  // Workers before this one wrote none; then what it says of the memory is all there is to compare.
  if (checksum !== undefined && checksum !== checksumOf(manifest)) throw corrupt(path, 'its checksum is another one');
  if (!isMemoryFacts(manifest.memory)) throw corrupt(path, 'it does not tell of a memory file');
  return manifest as unknown as T;
}

/** On stable storage, with a checksum of its own: what it says decides which bytes are trusted. */
export async function writeManifest(path: string, manifest: ManifestHead): Promise<void> {
  await writeDurably(path, JSON.stringify({ ...manifest, checksum: checksumOf(manifest) }));
}

function checksumOf(manifest: object): string {
  return createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
}

function isMemoryFacts(memory: unknown): memory is MemoryFacts {
  if (typeof memory !== 'object' || memory === null) return false;
  const { bytes, sha256, bootId, origin } = memory as Partial<MemoryFacts>;
  const texts = [sha256, bootId, origin?.name, origin?.version, origin?.cpu];
  return typeof bytes === 'number' && texts.every((text) => typeof text === 'string');
}

export function corrupt(path: string, why: string, cause?: unknown): DomainError {
  return new DomainError('snapshot_corrupt', `${path} cannot be trusted: ${why}`, {}, { cause });
}

/** Size and checksum of what a driver saved: a file's own, or those of the files in a directory together. */
export async function measureMemory(path: string): Promise<{ bytes: number; sha256: string }> {
  const bytes = await sizeOf(path);
  if (bytes === undefined) throw corrupt(path, 'it is missing');
  return { bytes, sha256: await sha256Of(path) };
}

/** Of the owner alone, and from here on only to be read. */
export async function sealMemory(path: string): Promise<void> {
  for (const file of await filesOf(path)) await chmod(file, 0o400);
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const sizes = (await filesOf(path)).map(async (file) => (await stat(file)).size);
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  } catch (err) {
    if (isAbsent(err)) return undefined;
    throw err;
  }
}

/** Of a file its own. Of a directory: of the names of its files, in order, each with the checksum of what is in it. */
async function sha256Of(path: string): Promise<string> {
  const files = await filesOf(path);
  if (files.length === 1 && files[0] === path) return sha256OfFile(path);
  const all = createHash('sha256');
  for (const file of files) all.update(`${await sha256OfBlocks(file)}  ${basename(file)}\n`);
  return all.digest('hex');
}

async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}

/**
 * Of the blocks that are not all zeroes, each with its place, and of the size. Most of what a VMM saves in directories is
 * holes, which are read and compared many times faster than they are hashed; and the guest stands still meanwhile.
 */
async function sha256OfBlocks(path: string): Promise<string> {
  const hash = createHash('sha256');
  let place = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>) {
    for (let start = 0; start < chunk.length; start += BLOCK_BYTES) {
      const block = chunk.subarray(start, start + BLOCK_BYTES);
      if (!ZEROES.subarray(0, block.length).equals(block)) hash.update(`${place + start}\n`).update(block);
    }
    place += chunk.length;
  }
  return hash.update(`${place}\n`).digest('hex');
}

/** The file itself, or the files of a directory in the order of their names. */
async function filesOf(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  return (await readdir(path)).toSorted().map((name) => join(path, name));
}
