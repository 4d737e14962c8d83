import { realpath, stat } from 'node:fs/promises';
import type { DiskBase } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import { isAbsent } from '../../errno.js';
import type { BaseRecord } from './cow-files.js';
import { SECTOR_BYTES } from './cow-size.js';

/** What a disk is about to be laid over. Refuses what a snapshot cannot be laid over. */
export async function readBase({ path, format }: DiskBase, whose: string): Promise<BaseRecord> {
  if (format !== 'raw') {
    throw new DomainError(
      'unsupported',
      `${path}, over which ${whose} is to be laid, is ${format} and was made with another disk driver; build the template on this host, or start its worker with TORPOR_DISK=qcow2`,
    );
  }
  const found = await lookAt(path, whose);
  if (found.bytes > 0 && found.bytes % SECTOR_BYTES === 0) return found;
  throw new DomainError(
    'unsupported',
    `${path}, over which ${whose} is to be laid, has ${found.bytes} bytes, which is no disk of whole ${SECTOR_BYTES}-byte sectors`,
  );
}

/** A CoW file only says what differs from its base: over another one it is garbage. */
export async function requireSameBase(record: BaseRecord, whose: string): Promise<void> {
  const { path, bytes, mtimeMs } = await lookAt(record.path, whose);
  if (bytes !== record.bytes) {
    throw new DomainError(
      'unsupported',
      `${path} has ${bytes} bytes and had ${record.bytes} when ${whose} was laid over it; bring the old file back`,
    );
  }
  // Tools round the rest of a millisecond in either direction.
  if (Math.abs(mtimeMs - record.mtimeMs) <= 1) return;
  const then = new Date(record.mtimeMs).toISOString();
  throw new DomainError(
    'unsupported',
    `${path} was changed since ${whose} was laid over it; bring the old file back, or, if only its time is another one, repeat after \`touch -d ${then} ${path}\``,
  );
}

async function lookAt(path: string, whose: string): Promise<BaseRecord> {
  try {
    const real = await realpath(path);
    const { size, mtimeMs } = await stat(real);
    // Whole milliseconds: what `touch -d` can be told, and what copies of a file keep.
    return { path: real, bytes: size, mtimeMs: Math.floor(mtimeMs) };
  } catch (err) {
    if (!isAbsent(err)) throw err;
    throw new DomainError('not_found', `the base image ${path}, over which ${whose} is laid, is missing on this host`);
  }
}
