import { createHash } from 'node:crypto';
import { cp, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { measureMemory } from '../../../host-worker/saved-memory.js';
import type { HarnessFiles } from '../harness-files.js';

/** How a suite handles what a driver saved without knowing whether that is a file or a directory of files. */
export interface SavedMemoryFiles {
  measure(path: string): Promise<{ bytes: number; sha256: string }>;
  /** A copy of which the end is missing, as after a crash. */
  tear(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
}

/** Of drivers that save one file, wherever they keep files. */
export function savedInFiles(files: HarnessFiles): SavedMemoryFiles {
  return {
    measure: async (path) => {
      const content = await files.read(path);
      return { bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
    },
    tear: async (from, to) => {
      const whole = await files.read(from);
      await files.write(to, whole.subarray(0, Math.floor(whole.length * 0.7)));
    },
    remove: (path) => files.remove(path),
  };
}

/** Of drivers that save a directory; `largest` is the file with the memory itself. */
export function savedInDirectories(largest: string): SavedMemoryFiles {
  return {
    measure: measureMemory,
    tear: async (from, to) => {
      await cp(from, to, { recursive: true });
      const file = join(to, largest);
      await truncate(file, Math.floor((await stat(file)).size * 0.7));
    },
    remove: (path) => rm(path, { recursive: true, force: true }),
  };
}
