import { constants } from 'node:fs';
import { access, readFile, statfs } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { canReflink } from '../../host-worker/file-copy.js';
import { tryCommand } from './command.js';

/** One line of `torpor doctor`. */
export interface Fact {
  name: string;
  ok: boolean;
  /** Without it the main job cannot run. */
  required: boolean;
  detail: string;
  /** What to do about it; only where it is not ok. */
  remedy?: string;
}

interface Verdict {
  ok: boolean;
  detail: string;
}

export function fact(name: string, required: boolean, { ok, detail }: Verdict, remedy: string): Fact {
  return ok ? { name, ok, required, detail } : { name, ok, required, detail, remedy };
}

/** Bits of capability(7) that the host worker uses. */
const CAPABILITIES = { CAP_CHOWN: 0, CAP_KILL: 5, CAP_SETGID: 6, CAP_SETUID: 7, CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21 };

export function missingCapabilities(procStatus: string): string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(procStatus)?.[1] ?? '0'}`);
  return Object.entries(CAPABILITIES)
    .filter(([, bit]) => ((effective >> BigInt(bit)) & 1n) === 0n)
    .map(([name]) => name);
}

export async function rights(): Promise<Fact> {
  const missing = missingCapabilities(await readFile('/proc/self/status', 'utf8'));
  const root = process.getuid?.() === 0;
  const detail = !root
    ? 'not root'
    : missing.length === 0
      ? 'root with all capabilities needed'
      : `root, but without ${missing.join(', ')}`;
  return fact(
    'root',
    true,
    { ok: root && missing.length === 0, detail },
    'run torpor with sudo; in a container, start it with --privileged',
  );
}

/** Opens the device node: the driver behind it may be missing though the node is there. */
export async function device(
  name: string,
  path: string,
  required: boolean,
  purpose: string,
  remedy: string,
): Promise<Fact> {
  const opened = await access(path, constants.R_OK | constants.W_OK).then(
    () => ({ ok: true, detail: `${path}: ${purpose}` }),
    (error: NodeJS.ErrnoException) => ({
      ok: false,
      detail: `${path}: ${error.code === 'ENOENT' ? 'not there' : error.message}`,
    }),
  );
  return fact(name, required, opened, remedy);
}

/** Makes a namespace with a veth pair, a tap and a nat rule in it, and deletes it with all of them. */
export async function networkFacts(): Promise<Fact[]> {
  const namespace = `torpor-doctor-${process.pid}`;
  const inside = ['ip', 'netns', 'exec', namespace] as const;
  const nat =
    'add table inet probe; add chain inet probe post { type nat hook postrouting priority 100 ; }; add set inet probe links { type ifname ; }; add rule inet probe post iifname @links masquerade';
  const tries: [name: string, argv: [string, ...string[]], remedy: string][] = [
    ['namespaces', ['ip', 'netns', 'add', namespace], 'the kernel needs CONFIG_NET_NS, and torpor root'],
    [
      'veth',
      ['ip', '-n', namespace, 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1'],
      'modprobe veth',
    ],
    ['tun', ['ip', '-n', namespace, 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap'], 'modprobe tun'],
    ['nftables', [...inside, 'nft', nat], 'apt-get install nftables; modprobe nf_tables nft_chain_nat'],
  ];
  const facts: Fact[] = [];
  try {
    for (const [name, argv, remedy] of tries) facts.push(fact(name, true, await works(argv), remedy));
  } finally {
    await tryCommand(['ip', 'netns', 'del', namespace]).catch(() => undefined);
  }
  return facts;
}

async function works(argv: [string, ...string[]]): Promise<Verdict> {
  try {
    const { exitCode, stderr } = await tryCommand(argv, { timeoutMs: 10_000 });
    if (exitCode === 0) return { ok: true, detail: 'works (tried)' };
    return {
      ok: false,
      detail: `${argv.slice(0, 3).join(' ')} …: ${stderr.trim().split('\n').at(-1) ?? `exit code ${exitCode}`}`,
    };
  } catch (error) {
    return { ok: false, detail: (error as Error).message };
  }
}

/** The first line that a program prints about itself. */
export async function program(
  name: string,
  required: boolean,
  argv: [string, ...string[]],
  remedy: string,
): Promise<Fact> {
  try {
    const { exitCode, stdout, stderr } = await tryCommand(argv, { timeoutMs: 10_000 });
    const detail = (stdout === '' ? stderr : stdout).split('\n')[0]?.trim() ?? '';
    return fact(name, required, { ok: exitCode === 0, detail }, remedy);
  } catch (error) {
    return fact(name, required, { ok: false, detail: (error as Error).message }, remedy);
  }
}

/** How disks are copied: without copying, where the file system can share blocks; elsewhere sparsely, which takes longer. */
export async function reflink(directory: string): Promise<Fact> {
  try {
    const { possible, why } = await canReflink(await nearestExisting(directory));
    const detail = possible ? why : `${why}: sparse copies are made`;
    return fact('reflink', false, { ok: possible, detail }, 'optional: keep the data on XFS or btrfs');
  } catch (error) {
    const detail = `it cannot be tried: ${(error as Error).message}`;
    return fact('reflink', false, { ok: false, detail }, 'run torpor with sudo');
  }
}

const NEEDED_DISK_BYTES = 4 * 1024 ** 3;
const NEEDED_MEMORY_BYTES = 2 * 1024 ** 3;

export async function diskSpace(name: string, directory: string): Promise<Fact> {
  const parent = await nearestExisting(directory);
  const { bavail, bsize } = await statfs(parent);
  const free = bavail * bsize;
  const detail = `${gibibytes(free)} free for ${directory}`;
  return fact(
    name,
    true,
    { ok: free >= NEEDED_DISK_BYTES, detail },
    `free at least ${gibibytes(NEEDED_DISK_BYTES)} there, or choose another place`,
  );
}

export async function memory(): Promise<Fact> {
  const info = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const kibibytes = /^MemAvailable:\s*(\d+)/m.exec(info)?.[1];
  const available = kibibytes === undefined ? freemem() : Number(kibibytes) * 1024;
  const detail = `${gibibytes(available)} available of ${gibibytes(totalmem())}`;
  return fact(
    'memory',
    true,
    { ok: available >= NEEDED_MEMORY_BYTES, detail },
    `torpor and one small sandbox need ${gibibytes(NEEDED_MEMORY_BYTES)}`,
  );
}

async function nearestExisting(directory: string): Promise<string> {
  const there = await access(directory).then(
    () => true,
    () => false,
  );
  return there || directory === dirname(directory) ? directory : nearestExisting(dirname(directory));
}

function gibibytes(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
