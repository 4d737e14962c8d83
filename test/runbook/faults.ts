import { execFile, spawn } from 'node:child_process';
import { mkdir, rename } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Undoes the fault; harmless when it was undone before. */
export type Mend = () => Promise<void>;

/** A file system over `folder` that refuses writing: at once, or when 4 MiB are written. */
export async function coverFolder(folder: string, how: 'read-only' | 'small'): Promise<Mend> {
  await mkdir(folder, { recursive: true });
  await run('mount', ['-t', 'tmpfs', '-o', how === 'small' ? 'size=4m' : 'ro', 'tmpfs', folder]);
  let covered = true;
  return async () => {
    if (covered) await run('umount', [folder]);
    covered = false;
  };
}

/** As after a restore that left something out. */
export async function moveAside(path: string): Promise<Mend> {
  const aside = `${path}.aside`;
  await rename(path, aside);
  let moved = true;
  return async () => {
    if (moved) await rename(aside, path);
    moved = false;
  };
}

/** The byte that a program locks, shared, as long as it may write to an image; see QEMU's block/file-posix.c. */
const WRITE_PERMISSION_BYTE = 101;

const HOLDER = `
import fcntl, sys
image = open(sys.argv[1], 'rb')
fcntl.lockf(image, fcntl.LOCK_SH, 1, ${WRITE_PERMISSION_BYTE})
print('held', flush=True)
sys.stdin.read()
`;

/** A program that holds the disk as a second writer would: the VM goes on, and nobody opens the disk after it. */
export async function holdDisk(path: string): Promise<Mend> {
  const holder = spawn('python3', ['-c', HOLDER, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => holder.once('close', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: holder.stdout }).once('line', () => resolve());
    holder.once('error', reject);
    void ended.then(() => reject(new Error(`nobody holds ${path}`)));
  });
  return async () => {
    holder.stdin.end();
    await ended;
  };
}
