/** The unit of device-mapper's tables. */
export const SECTOR_BYTES = 512;
/** 4 KiB: larger chunks copy more on a guest's first write to each. */
export const CHUNK_SECTORS = 8;

const CHUNK_BYTES = CHUNK_SECTORS * SECTOR_BYTES;
/** A chunk of the exception store describes this many chunks of data, with 16 bytes each. */
const CHUNKS_PER_AREA = CHUNK_BYTES / 16;

/** How large CoW files are made and what happens when one is nearly full. */
export interface CowPolicy {
  /** Size of a new one. Absent: as large as it can ever get, so that only the host's file system limits it. */
  bytes?: number;
  /** By how much a nearly full one is extended. Absent: it is not, and disks that are nearly full are refused. */
  growBytes?: number;
}

/**
 * What a CoW file takes when every chunk of its base was written to: the chunks, a header, and the areas that
 * say where each one is. The kernel prepares the next area when one is full, so there is always one more.
 */
export function fullCowBytes(baseSectors: number): number {
  const chunks = Math.ceil(baseSectors / CHUNK_SECTORS);
  return (1 + Math.floor(chunks / CHUNKS_PER_AREA) + 1 + chunks) * CHUNK_BYTES;
}

export function newCowBytes(baseSectors: number, policy: CowPolicy): number {
  const full = fullCowBytes(baseSectors);
  return policy.bytes === undefined ? full : Math.min(full, wholeChunks(policy.bytes));
}

/** The size to extend a CoW file to; undefined when it cannot get larger. */
export function grownCowBytes(bytes: number, baseSectors: number, policy: CowPolicy): number | undefined {
  const full = fullCowBytes(baseSectors);
  if (policy.growBytes === undefined || bytes >= full) return undefined;
  return Math.min(full, wholeChunks(bytes + policy.growBytes));
}

function wholeChunks(bytes: number): number {
  return Math.ceil(bytes / CHUNK_BYTES) * CHUNK_BYTES;
}
