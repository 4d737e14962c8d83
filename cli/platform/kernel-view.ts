import { readFile, stat } from 'node:fs/promises';
import { release } from 'node:os';

/** What the kernel and the system tell in files, so that whoever judges it can be given any machine. */
export interface KernelView {
  release: string;
  /** Trimmed; undefined where there is no such file. */
  read(path: string): Promise<string | undefined>;
  /** Permission bits; undefined where there is no such file. */
  mode(path: string): Promise<number | undefined>;
}

export const thisKernel: KernelView = {
  release: release(),
  read: async (path) => (await readFile(path, 'utf8').catch(() => undefined))?.trim(),
  mode: async (path) => (await stat(path).catch(() => undefined))?.mode,
};
