import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { transform } from '@swc/core';
import { SWC_MODULE_OPTIONS } from '../tools/swc-options.mjs';

/** The build has its own; planted violations are not there to be run. */
const LEFT_OUT = new Set(['node_modules', 'dist', 'fixtures']);
const AT_A_TIME = 16;

/**
 * Puts `x.js` beside every `x.ts`. Under emulation a compiler takes ten seconds to load and longer to work, and sources
 * import one another by the names that they have when compiled.
 */
export async function compileTree(folder: string): Promise<void> {
  const sources = await typeScriptBelow(folder);
  const next = sources.values();
  const workers = Array.from({ length: AT_A_TIME }, async () => {
    for (const source of next) {
      const { code } = await transform(await readFile(source, 'utf8'), { ...SWC_MODULE_OPTIONS, filename: source });
      await writeFile(source.replace(/\.ts$/, '.js'), code);
    }
  });
  await Promise.all(workers);
}

async function typeScriptBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && !LEFT_OUT.has(entry.name)) found.push(...(await typeScriptBelow(path)));
    if (entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts')) found.push(path);
  }
  return found;
}
