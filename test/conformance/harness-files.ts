import { readFile, rm, stat, writeFile } from 'node:fs/promises';

/** The files that a driver reads and writes, wherever it keeps them. */
export interface HarnessFiles {
  read(path: string): Promise<Buffer>;
  write(path: string, content: string | Buffer): Promise<void>;
  remove(path: string): Promise<void>;
  /** 0 for a file that is not there. */
  size(path: string): Promise<number>;
}

export const REAL_FILES: HarnessFiles = {
  read: (path) => readFile(path),
  write: (path, content) => writeFile(path, content),
  remove: (path) => rm(path, { force: true }),
  size: (path) =>
    stat(path).then(
      (found) => found.size,
      () => 0,
    ),
};
