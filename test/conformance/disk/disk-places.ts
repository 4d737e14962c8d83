import { open, readdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskAttachment, DiskBase } from '../../../activities/host/ports.js';

export const MIB = 2 ** 20;
/** At the beginning and far behind it, so that several chunks are involved. */
const OFFSETS = [0, 5 * MIB];
const PLACE_BYTES = 4096;

export async function makeRawBase(path: string, bytes: number): Promise<DiskBase> {
  await writeFile(path, '');
  await truncate(path, bytes);
  return { path, format: 'raw' };
}

export async function putPlaces({ path }: DiskAttachment | DiskBase, value: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    for (const offset of OFFSETS) await file.write(Buffer.alloc(PLACE_BYTES, value), 0, PLACE_BYTES, offset);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** -1 for bytes that differ from each other; undefined where there is nothing to read. */
export async function valueAt(path: string): Promise<number | undefined> {
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const found = new Set<number>();
    for (const offset of OFFSETS) {
      const { buffer } = await file.read(Buffer.alloc(PLACE_BYTES), 0, PLACE_BYTES, offset);
      for (const byte of new Set(buffer)) found.add(byte);
    }
    return found.size === 1 ? [...found][0] : -1;
  } finally {
    await file.close();
  }
}

export async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
}
