import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from './command.js';

/** What one sandbox has on its host, found by looking at the machine rather than by asking anybody. */
export interface HostTraces {
  processes: string[];
  namespaces: string[];
  /** The host's ends of its veth pair; the tap and the other end live and die with the namespace. */
  links: string[];
  /** Elements of nftables sets that name one of its links. */
  rules: string[];
  /** Its entry in the machine's table of addresses. */
  addresses: string[];
  /** Mapped devices, and loop devices over its files, where its disk is made of such. */
  devices: string[];
  /** Below the host's data directory. */
  files: string[];
}

const ADDRESS_SLOTS = '/run/torpor/slots';
/** What the host remembers of a destroyed sandbox on purpose: that late steps of it are refused. */
const TOMBSTONES = 'journal';

export async function findTraces(
  sandboxId: string,
  dataDirectory: string,
  knownLinks: readonly string[] = [],
): Promise<HostTraces> {
  const namespace = `sbx-${sandboxId}`;
  const namespaces = (await namesOf('/run/netns')).filter((name) => name === namespace);
  const links = await linksOf(namespaces, knownLinks);
  const [processes, rules, addresses, devices, files] = await Promise.all([
    processesWith(sandboxId),
    ruleElements([...new Set([...links, ...knownLinks])]),
    addressesOf(sandboxId),
    devicesOf(sandboxId),
    filesOf(sandboxId, dataDirectory),
  ]);
  return { processes, namespaces, links, rules, addresses, devices, files };
}

/** Processes that name it in their command line: the machine monitor, and anything started for it. */
export async function processesWith(text: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await namesOf('/proc')).filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.includes(text)) found.push(`${pid} ${command.split('\0')[0] ?? ''}`);
  }
  return found;
}

interface Link {
  ifname: string;
  ifindex: number;
  link_index?: number;
}

/** The ends on the host's side are found by their number inside; once the namespace is gone, by the names seen before. */
async function linksOf(namespaces: readonly string[], known: readonly string[]): Promise<string[]> {
  const outside = await linkList([]);
  const numbers = new Set<number>();
  for (const namespace of namespaces) {
    for (const { link_index } of await linkList(['-n', namespace]))
      if (link_index !== undefined) numbers.add(link_index);
  }
  return outside
    .filter(({ ifindex, ifname }) => numbers.has(ifindex) || known.includes(ifname))
    .map(({ ifname }) => ifname);
}

async function linkList(where: string[]): Promise<Link[]> {
  const { stdout } = await runCommand(['ip', ...where, '-json', 'link', 'show']);
  return stdout.trim() === '' ? [] : (JSON.parse(stdout) as Link[]);
}

async function ruleElements(links: readonly string[]): Promise<string[]> {
  if (links.length === 0) return [];
  const { stdout } = await runCommand(['nft', 'list', 'ruleset']);
  return links.filter((link) => stdout.includes(`"${link}"`));
}

async function addressesOf(sandboxId: string): Promise<string[]> {
  const found: string[] = [];
  for (const slot of await namesOf(ADDRESS_SLOTS)) {
    const content = await readFile(join(ADDRESS_SLOTS, slot), 'utf8').catch(() => '');
    if (content.includes(`"${sandboxId}"`)) found.push(slot);
  }
  return found;
}

async function devicesOf(sandboxId: string): Promise<string[]> {
  const found = (await namesOf('/dev/mapper')).filter((name) => name.includes(sandboxId));
  for (const name of (await namesOf('/sys/block')).filter((block) => block.startsWith('loop'))) {
    // Only a device that is attached has this file.
    const file = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '');
    if (file.includes(sandboxId)) found.push(name);
  }
  return found;
}

async function filesOf(sandboxId: string, directory: string): Promise<string[]> {
  const all = await readdir(directory, { recursive: true }).catch(() => []);
  return all.filter((path) => path.includes(sandboxId) && !path.startsWith(`${TOMBSTONES}/`));
}

async function namesOf(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
