import { open, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const PAGE_BYTES = 4096;
/** Bit 55 of an entry of /proc/<pid>/pagemap (Linux, Documentation/admin-guide/mm/soft-dirty.rst). */
const SOFT_DIRTY = 1n << 55n;
const ENTRY_BYTES = 8;

interface Mapping {
  from: bigint;
  to: bigint;
  residentBytes: number;
}

/** Bytes that files of a directory really take on the disk. */
export async function allocatedBytes(directory: string): Promise<number> {
  const files = (await readdir(directory)).map((name) => stat(join(directory, name)));
  return (await Promise.all(files)).reduce((sum, { blocks }) => sum + blocks * 512, 0);
}

/** Bytes of the guest's memory that are in memory: the VMM's largest mapping is its guest. */
export async function residentBytes(pid: number): Promise<number> {
  return (await guestMapping(pid)).residentBytes;
}

/** From here on writes to the guest's memory are counted. False where the kernel cannot (CONFIG_MEM_SOFT_DIRTY). */
export async function beginCountingDirty(pid: number): Promise<boolean> {
  return writeFile(`/proc/${pid}/clear_refs`, '4').then(
    () => true,
    () => false,
  );
}

export async function dirtyBytes(pid: number): Promise<number> {
  const { from, to } = await guestMapping(pid);
  const pages = Number((to - from) / BigInt(PAGE_BYTES));
  const pagemap = await open(`/proc/${pid}/pagemap`, 'r');
  try {
    const entries = Buffer.alloc(pages * ENTRY_BYTES);
    const { bytesRead } = await pagemap.read(
      entries,
      0,
      entries.length,
      Number(from / BigInt(PAGE_BYTES)) * ENTRY_BYTES,
    );
    let dirty = 0;
    for (let at = 0; at < bytesRead; at += ENTRY_BYTES) {
      if ((entries.readBigUInt64LE(at) & SOFT_DIRTY) !== 0n) dirty += 1;
    }
    return dirty * PAGE_BYTES;
  } finally {
    await pagemap.close();
  }
}

async function guestMapping(pid: number): Promise<Mapping> {
  const mappings: Mapping[] = [];
  for (const line of (await readFile(`/proc/${pid}/smaps`, 'utf8')).split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range) mappings.push({ from: BigInt(`0x${range[1]}`), to: BigInt(`0x${range[2]}`), residentBytes: 0 });
    const resident = /^Rss:\s+(\d+) kB/.exec(line);
    const last = mappings.at(-1);
    if (resident && last) last.residentBytes = Number(resident[1]) * 1024;
  }
  const guest = mappings.toSorted((a, b) => Number(b.to - b.from - (a.to - a.from)))[0];
  if (guest === undefined) throw new Error(`process ${pid} has no memory`);
  return guest;
}
