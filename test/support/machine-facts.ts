import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { nftThings } from './nft-things.js';
import { readProcesses } from './process-table.js';

export interface MachineOptions {
  /** Folders that hold what the platform leaves: files and sockets below them are compared. */
  directories: readonly string[];
  /** Whoever has one of these in its command line, environment or working directory is ours: the run's folders. */
  marks?: readonly string[];
  /** Findings that are meant to stay, such as tombstones of the journal. Matched against `kind what`. */
  ignore?: readonly RegExp[];
  /** Further kinds that only the caller can see, for instance the open workflows. */
  also?: Readonly<Record<string, () => Promise<readonly string[]>>>;
}

/** Per kind: what identifies a thing, and how a report names it. */
export type MachineSnapshot = ReadonlyMap<string, ReadonlyMap<string, string>>;

type Things = Map<string, string>;

export async function readMachine(options: MachineOptions): Promise<MachineSnapshot> {
  const { directories, marks = [], ignore = [], also = {} } = options;
  const trees = await Promise.all(directories.map(readTree));
  const tree = new Map(trees.flatMap((things) => [...things]));
  const links = await readLinks();
  const kinds = new Map<string, Things>([
    ['process', await readProcesses([...directories, ...marks])],
    ['network namespace', likeLinks(named(await entries('/run/netns')), links)],
    ['link', links],
    ['nftables', likeLinks(nftThings(await output('nft', ['--json', 'list', 'ruleset'])), links)],
    ['loop device', await readLoopDevices()],
    ['mapped device', named((await entries('/dev/mapper')).filter((name) => name !== 'control'))],
    ['mount', likeLinks(await readMounts(), links)],
    ['socket', new Map([...socketsOf(tree), ...(await readBoundSockets(directories))])],
    ['file', filesOf(tree)],
  ]);
  for (const [kind, read] of Object.entries(also)) kinds.set(kind, named(await read()));
  for (const [kind, things] of kinds) {
    for (const [key, what] of things) {
      if (ignore.some((pattern) => pattern.test(`${kind} ${what}`))) things.delete(key);
    }
  }
  return kinds;
}

function named(names: readonly string[]): Things {
  return new Map(names.map((name) => [name, name]));
}

/** A folder that is not there has nothing in it: namespaces and mapped devices make theirs when first used. */
async function entries(folder: string): Promise<string[]> {
  return readdir(folder).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT' || err.code === 'ENOTDIR') return [];
    throw err;
  });
}

/** A machine without the program has none of what it would list; any other failure is one. */
async function output(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)(program, args, { maxBuffer: 2 ** 26 })).stdout;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw err;
  }
}

/** What a host worker gives to the link of a network that no sandbox has yet. */
const AHEAD = 'ahead';

async function readLinks(): Promise<Things> {
  const links = JSON.parse((await output('ip', ['-json', 'link', 'show'])) || '[]') as {
    ifname: string;
    ifalias?: string;
  }[];
  return new Map(links.map(({ ifname, ifalias }) => [ifname, ifalias === AHEAD ? `${ifname} ${AHEAD}` : ifname]));
}

/** What belongs to the link of a network made ahead, by its name or as an element of a set, is told apart as the link is. */
function likeLinks(things: Things, links: Things): Things {
  const linkOf = (what: string) => /^element "([^"]+)"/.exec(what)?.[1] ?? what.split(/[ /]/).at(-1) ?? '';
  const isAhead = (what: string) => links.get(linkOf(what))?.endsWith(` ${AHEAD}`) === true;
  return new Map([...things].map(([key, what]) => [key, isAhead(what) ? `${what} ${AHEAD}` : what]));
}

async function readLoopDevices(): Promise<Things> {
  const devices: Things = new Map();
  for (const name of (await entries('/sys/block')).filter((name) => name.startsWith('loop'))) {
    // Only a device that is attached has this file.
    const file = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => undefined);
    if (file !== undefined) devices.set(`${name} ${file.trim()}`, `/dev/${name} on ${file.trim()}`);
  }
  return devices;
}

async function readMounts(): Promise<Things> {
  const mounts: Things = new Map();
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).trimEnd().split('\n')) {
    const [fields = '', rest = ''] = line.split(' - ');
    const [, , , , point = ''] = fields.split(' ');
    const [type = ''] = rest.split(' ');
    mounts.set(`${point} ${type}`, `${type} on ${point}`);
  }
  return mounts;
}

/** Sockets outlive their names: one whose file was removed still belongs to somebody. */
async function readBoundSockets(directories: readonly string[]): Promise<Things> {
  const bound = (await readFile('/proc/net/unix', 'utf8')).split('\n').map((line) => line.split(/\s+/)[7] ?? '');
  return named(bound.filter((path) => directories.some((directory) => path.startsWith(`${directory}/`))));
}

interface TreeEntry {
  socket: boolean;
}

async function readTree(directory: string): Promise<Map<string, TreeEntry>> {
  const found = new Map<string, TreeEntry>();
  const listed = await readdir(directory, { withFileTypes: true }).catch((err: NodeJS.ErrnoException) => {
    // What disappears while it is looked at is not left behind.
    if (err.code === 'ENOENT' || err.code === 'ENODEV') return [];
    throw err;
  });
  for (const entry of listed) {
    const path = join(directory, entry.name);
    found.set(path, { socket: entry.isSocket() });
    if (entry.isDirectory()) for (const [below, what] of await readTree(path)) found.set(below, what);
  }
  return found;
}

function socketsOf(tree: ReadonlyMap<string, TreeEntry>): Things {
  return named([...tree].filter(([, { socket }]) => socket).map(([path]) => path));
}

function filesOf(tree: ReadonlyMap<string, TreeEntry>): Things {
  return named([...tree].filter(([, { socket }]) => !socket).map(([path]) => path));
}
