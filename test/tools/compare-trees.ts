import { readFile, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';

/** What keeps `actual` from being `expected`, one line per file. */
export async function compareTrees(actual: string, expected: string): Promise<string[]> {
  const [here, wanted] = await Promise.all([filesBelow(actual), filesBelow(expected)]);
  const stale = here.filter((file) => !wanted.includes(file)).map((file) => `${file}: nothing generates it any more`);
  const missing = wanted.filter((file) => !here.includes(file)).map((file) => `${file}: missing`);
  const changed: string[] = [];
  for (const file of wanted.filter((file) => here.includes(file))) {
    const [a, b] = await Promise.all([readFile(join(actual, file)), readFile(join(expected, file))]);
    if (!a.equals(b)) changed.push(`${file}: differs`);
  }
  return [...stale, ...missing, ...changed];
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(absent);
  return entries.filter((entry) => entry.isFile()).map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}

/** A folder that is not there holds nothing. */
function absent(err: NodeJS.ErrnoException): [] {
  if (err.code === 'ENOENT') return [];
  throw err;
}
