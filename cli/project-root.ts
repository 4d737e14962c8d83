import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The folder with package.json: what is not compiled (the guest image's scripts, lists of
 * packages) is found from here, whether this runs from `dist/` or from the sources.
 */
export const PROJECT_ROOT = findRoot(dirname(fileURLToPath(import.meta.url)));

function findRoot(from: string): string {
  if (existsSync(join(from, 'package.json'))) return from;
  const parent = dirname(from);
  if (parent === from) throw new Error('package.json is missing: the installation of torpor is incomplete');
  return findRoot(parent);
}
