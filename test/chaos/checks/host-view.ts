import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../../cli/platform/command.js';

/** What one sandbox or build has on the machine. */
export interface Possessions {
  /** Pids of VMMs. */
  vmms: number[];
  namespaces: string[];
  taps: string[];
  /** What its namespace lets out, as the kernel lists it. */
  rules: string;
  addresses: string[];
  overlays: string[];
  /** Mapped devices, where the disk is one. */
  devices: string[];
  /** Generations of complete memory snapshots. */
  snapshots: number[];
  /** All files of the host worker that bear its id, tombstones of the journal left out. */
  files: string[];
}

/** Of what is gone, or was never there. */
export const NOTHING: Possessions = {
  vmms: [],
  namespaces: [],
  taps: [],
  rules: '',
  addresses: [],
  overlays: [],
  devices: [],
  snapshots: [],
  files: [],
};

/** What is in a namespace. */
export type Inside = Pick<Possessions, 'taps' | 'rules'>;

export interface HostDirectories {
  data: string;
  run: string;
}

/** What is on the machine, in a form that can come from another one. */
export interface HostFacts {
  /** By the id of the sandbox. */
  vmms: [id: string, pids: number[]][];
  namespaces: string[];
  slots: { name: string; content: string }[];
  devices: string[];
  files: string[];
}

const NAMESPACES = '/run/netns';
const SLOTS = '/run/torpor/slots';
const DEVICES = '/dev/mapper';
const VMM = /^[^\0]*(simulated-vmm|qemu-system-[^\0/]*|cloud-hypervisor)\0/;
/** What each driver names the writable part of a disk. */
const OVERLAY = /\/disk\.(qcow2|cow)$/;

/** Reads the machine once; what each sandbox has of it is then looked up. */
export class HostView {
  readonly #vmms: ReadonlyMap<string, number[]>;

  constructor(
    private readonly facts: HostFacts,
    private readonly inside: (namespace: string) => Promise<Inside>,
  ) {
    this.#vmms = new Map(facts.vmms);
  }

  static async read(directories: HostDirectories): Promise<HostView> {
    return new HostView(await readHostFacts(directories), readInside);
  }

  allVmms(): number[] {
    return [...this.#vmms.values()].flat();
  }

  async of(id: string): Promise<Possessions> {
    const namespace = `sbx-${id}`;
    const files = this.facts.files.filter((path) => path.includes(id) && !path.startsWith('journal/'));
    const there = this.facts.namespaces.includes(namespace);
    const snapshots = files
      .map((path) => /\/snapshots\/(\d+)\/manifest\.json$/.exec(path)?.[1])
      .filter((found) => found !== undefined);
    return {
      vmms: this.#vmms.get(id) ?? [],
      namespaces: there ? [namespace] : [],
      ...(there ? await this.inside(namespace) : { taps: [], rules: '' }),
      addresses: this.facts.slots.filter(({ content }) => content.includes(`"${id}"`)).map(({ name }) => name),
      overlays: files.filter((path) => OVERLAY.test(path)),
      devices: this.facts.devices.filter((name) => name.includes(id)),
      snapshots: snapshots.map(Number),
      files,
    };
  }
}

export async function readHostFacts({ data, run }: HostDirectories): Promise<HostFacts> {
  const [vmms, namespaces, slots, devices, files, sockets] = await Promise.all([
    readVmms(run),
    names(NAMESPACES),
    readSlots(),
    names(DEVICES),
    readdir(data, { recursive: true }),
    readdir(run, { recursive: true }).catch(() => []),
  ]);
  return { vmms: [...vmms], namespaces, slots, devices, files: [...files, ...sockets] };
}

/** Every VMM has the path of a socket in the folder of its sandbox among its arguments. */
async function readVmms(run: string): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  for (const [index, command] of commands.entries()) {
    const [, rest] = VMM.test(command) ? command.split(`${join(run, 'vms')}/`) : [];
    const id = rest?.split('/')[0];
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

export async function readInside(namespace: string): Promise<Inside> {
  const [shown, listed] = await Promise.all([
    runCommand(['ip', '-n', namespace, '-json', '-details', 'link', 'show']),
    runCommand(['ip', 'netns', 'exec', namespace, 'nft', 'list', 'ruleset']),
  ]);
  const links = JSON.parse(shown.stdout || '[]') as { ifname: string; linkinfo?: { info_kind?: string } }[];
  const taps = links.filter(({ linkinfo }) => linkinfo?.info_kind === 'tun').map(({ ifname }) => ifname);
  return { taps, rules: listed.stdout };
}

function names(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
