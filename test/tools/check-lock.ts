/**
 * Fails when package-lock.json leaves out an optional package that another one in it names: `npm ci` then refuses
 * the file. npm leaves out those that the registry in use does not offer, such as native parts for other platforms.
 * `--fix` adds them with what their name and their parent tell.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../support/root.js';

interface LockedPackage {
  version: string;
  license?: string;
  dev?: boolean;
  optional?: boolean;
  cpu?: string[];
  os?: string[];
  libc?: string[];
  optionalDependencies?: Record<string, string>;
}

interface Lock {
  packages: Record<string, LockedPackage>;
}

const FILE = join(ROOT, 'package-lock.json');
const SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const PROCESSORS = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64'];
const ALIASES: Record<string, string> = { aarch64: 'arm64', armv7: 'arm' };

/** Where npm looks for a package that the one at `path` needs, innermost first. */
function places(path: string, name: string): string[] {
  const found: string[] = [];
  for (let at = path; ; at = at.slice(0, at.lastIndexOf('node_modules/')).replace(/\/$/, '')) {
    found.push(`${at === '' ? '' : `${at}/`}node_modules/${name}`);
    if (at === '') return found;
  }
}

function missingFrom({ packages }: Lock): { name: string; version: string; parent: LockedPackage }[] {
  return Object.entries(packages).flatMap(([path, parent]) =>
    Object.entries(parent.optionalDependencies ?? {})
      .filter(([name]) => !places(path, name).some((place) => place in packages))
      .map(([name, version]) => ({ name, version, parent })),
  );
}

function entryFor({ name, version, parent }: ReturnType<typeof missingFrom>[number]): LockedPackage {
  if (!/^\d+\.\d+\.\d+/.test(version)) throw new Error(`${name}: ${version} is no exact version; add it by hand`);
  const words = name
    .split(/[/-]/)
    .map((word) => ALIASES[word] ?? word)
    .slice(1);
  const of = (known: string[]) => words.filter((word) => known.includes(word));
  const libc = words.some((word) => word.startsWith('musl'))
    ? ['musl']
    : words.some((word) => word.startsWith('gnu'))
      ? ['glibc']
      : [];
  const limits = Object.entries({ cpu: of(PROCESSORS), libc, os: of(SYSTEMS) }).filter(
    ([, values]) => values.length > 0,
  );
  if (limits.length === 0) throw new Error(`${name}: its name tells no platform; add it by hand`);
  return {
    version,
    ...Object.fromEntries(limits),
    ...(parent.dev ? { dev: true } : {}),
    ...(parent.license === undefined ? {} : { license: parent.license }),
    optional: true,
  };
}

const lock = JSON.parse(await readFile(FILE, 'utf8')) as Lock;
const missing = missingFrom(lock);
if (missing.length > 0 && process.argv.includes('--fix')) {
  for (const each of missing) lock.packages[`node_modules/${each.name}`] = entryFor(each);
  const sorted = Object.entries(lock.packages).toSorted(([a], [b]) => a.localeCompare(b, 'en'));
  await writeFile(FILE, `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, null, 2)}\n`);
  console.log(`added ${missing.length} packages to package-lock.json`);
} else if (missing.length > 0) {
  console.error(`package-lock.json leaves out ${missing.map(({ name }) => name).join(', ')}: npm run lock:complete`);
  process.exitCode = 1;
}
