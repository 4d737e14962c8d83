import { dirname } from 'node:path';

/** Where the other fakes keep things; and one directory for tests. */
const ROOTS = ['images', 'disks', 'snapshots', 'builds', 'scratch'].map((name) => `/fake/${name}`);

/** The files of a machine in memory. A file needs its directory, as on a real one. */
export class FakeFiles {
  readonly #directories = new Set(ROOTS);
  readonly #contents = new Map<string, Buffer>();

  /** With all directories above it. */
  mkdir(path: string): void {
    for (let each = path; !this.#directories.has(each) && each !== '/'; each = dirname(each))
      this.#directories.add(each);
  }

  write(path: string, content: string | Buffer): void {
    if (!this.#directories.has(dirname(path))) {
      throw Object.assign(new Error(`ENOENT: no such file or directory, open '${path}'`), { code: 'ENOENT', path });
    }
    this.#contents.set(path, Buffer.from(content));
  }

  read(path: string): Buffer | undefined {
    return this.#contents.get(path);
  }

  /** A file, or a directory with everything in it; neither need exist. */
  remove(path: string): void {
    for (const all of [this.#contents, this.#directories]) {
      for (const each of [...all.keys()]) if (isAt(each, path)) all.delete(each);
    }
  }

  /** A directory with everything in it. */
  rename(from: string, to: string): void {
    this.mkdir(to);
    for (const [path, content] of [...this.#contents]) {
      if (isAt(path, from)) this.#contents.set(to + path.slice(from.length), content);
    }
    this.remove(from);
  }

  /** Names directly below a directory. */
  list(directory: string): string[] {
    const below = [...this.#contents.keys(), ...this.#directories].filter((path) => path.startsWith(`${directory}/`));
    return [...new Set(below.map((path) => path.slice(directory.length + 1).split('/')[0] ?? ''))];
  }
}

function isAt(path: string, root: string): boolean {
  return path === root || path.startsWith(`${root}/`);
}
