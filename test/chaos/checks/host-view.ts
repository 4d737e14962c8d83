import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../../cli/platform/command.js';

/** What one sandbox or build has on the machine. */
export interface Possessions {
  /** Pids of VMMs. */
  vmms: number[];
  namespaces: string[];
  taps: string[];
  addresses: string[];
  overlays: string[];
  /** Generations of complete memory snapshots. */
  snapshots: number[];
  /** All files of the host worker that bear its id, tombstones of the journal left out. */
  files: string[];
}

export interface HostDirectories {
  data: string;
  run: string;
}

const NAMESPACES = '/run/netns';
const SLOTS = '/run/torpor/slots';
/** Arguments that a VMM alone has: its disk is among them. */
const OVERLAY = /\/sandboxes\/([a-z0-9]+)\/[^\s\0]*disk[^\s\0]*/;

/** Reads the machine once; what each sandbox has of it is then looked up. */
export class HostView {
  private constructor(
    private readonly vmms: ReadonlyMap<string, number[]>,
    private readonly namespaces: ReadonlySet<string>,
    private readonly slots: readonly { name: string; content: string }[],
    private readonly files: readonly string[],
  ) {}

  static async read({ data, run }: HostDirectories): Promise<HostView> {
    const [vmms, namespaces, slots, files, sockets] = await Promise.all([
      readVmms(data),
      names(NAMESPACES),
      readSlots(),
      readdir(data, { recursive: true }),
      readdir(run, { recursive: true }).catch(() => []),
    ]);
    return new HostView(vmms, new Set(namespaces), slots, [...files, ...sockets]);
  }

  allVmms(): number[] {
    return [...this.vmms.values()].flat();
  }

  async of(id: string): Promise<Possessions> {
    const namespace = `sbx-${id}`;
    const files = this.files.filter((path) => path.includes(id) && !path.startsWith('journal/'));
    const there = this.namespaces.has(namespace);
    const snapshots = files
      .map((path) => /\/snapshots\/(\d+)\/manifest\.json$/.exec(path)?.[1])
      .filter((found) => found !== undefined);
    return {
      vmms: this.vmms.get(id) ?? [],
      namespaces: there ? [namespace] : [],
      taps: there ? await readTaps(namespace) : [],
      addresses: this.slots.filter(({ content }) => content.includes(`"${id}"`)).map(({ name }) => name),
      overlays: files.filter((path) => path.endsWith('/disk.qcow2')),
      snapshots: snapshots.map(Number),
      files,
    };
  }
}

async function readVmms(data: string): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  for (const [index, command] of commands.entries()) {
    const isVmm = /^[^\0]*(simulated-vmm|qemu-system-[^\0/]*)\0/.test(command) && command.includes(data);
    const id = isVmm ? OVERLAY.exec(command)?.[1] : undefined;
    if (id !== undefined) found.set(id, [...(found.get(id) ?? []), Number(pids[index])]);
  }
  return found;
}

async function readSlots(): Promise<{ name: string; content: string }[]> {
  const slots = await names(SLOTS);
  return Promise.all(
    slots.map(async (name) => ({ name, content: await readFile(join(SLOTS, name), 'utf8').catch(() => '') })),
  );
}

async function readTaps(namespace: string): Promise<string[]> {
  const { stdout } = await runCommand(['ip', '-n', namespace, '-json', '-details', 'link', 'show']);
  const links = JSON.parse(stdout || '[]') as { ifname: string; linkinfo?: { info_kind?: string } }[];
  return links.filter(({ linkinfo }) => linkinfo?.info_kind === 'tun').map(({ ifname }) => ifname);
}

function names(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
