import { createHash } from 'node:crypto';
import { lstat, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Network } from '../../../activities/host/ports.js';
import { type NetnsOptions, NetnsNetwork } from '../../../host-worker/drivers/netns/netns-network.driver.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { hostTable } from '../../../host-worker/host-tag.js';

export const exec = new ChildProcessExec();
/** Exists everywhere; the platform's own user may not have been made yet. */
export const USER = 'nobody';
/** In every name, so that runs at the same time do not meet. */
export const RUN = `t${process.pid}`;

/** One host worker's networks, with slots of its own. */
export class NetnsLab {
  readonly warnings: string[] = [];
  readonly #opened: NetnsNetwork[] = [];

  private constructor(
    /** Of the host worker. */
    readonly tag: string,
    readonly slotsDir: string,
    /** The second number of its addresses, which no other lab of this run has. */
    private readonly subnet: number,
    private readonly sharesSlots: boolean,
  ) {}

  static async open(name: string, subnet: number, slotsDir?: string): Promise<NetnsLab> {
    const dir = slotsDir ?? (await mkdtemp(join(tmpdir(), 'network-')));
    return new NetnsLab(`${name}_${RUN}`, dir, subnet, slotsDir !== undefined);
  }

  /** Another instance is what a restarted worker has. */
  driver(more: Partial<NetnsOptions> = {}): NetnsNetwork {
    const network = this.dying(more);
    this.#opened.push(network);
    return network;
  }

  /** One that is not waited for at the end. */
  dying(more: Partial<NetnsOptions>): NetnsNetwork {
    return new NetnsNetwork({
      cidr: `10.98.${this.subnet}.0/24`,
      hostTag: this.tag,
      vmUser: USER,
      exec,
      slotsDir: this.slotsDir,
      warn: (_, message) => this.warnings.push(message),
      ...more,
    });
  }

  get table(): string {
    return hostTable(this.tag);
  }

  /** Everything on the machine that bears a name or an address of this lab, but for what is kept ahead. */
  async leftovers(): Promise<string[]> {
    for (const network of this.#opened) await network.settled();
    const { prefix } = this;
    const namespaces = (await readdir('/run/netns')).filter((name) => name.startsWith(prefix) || name.endsWith(RUN));
    const links = (await readdir('/sys/class/net')).filter((name) => name.startsWith(prefix));
    const addresses = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
    const ours = addresses.filter((address) => address.startsWith(`10.98.${this.subnet}.`));
    const found = [...namespaces, ...links, ...ours, ...(await this.members()), ...(await readdir(this.slotsDir))];
    const kept = new Set((await this.ahead()).flatMap((address) => [address, this.nameAt(address)]));
    return found.filter((what) => !kept.has(what));
  }

  /** Of link and namespace of the slot with this address. */
  nameAt(address: string): string {
    return `${this.prefix}${(Number(address.split('.').at(-1)) / 2).toString(36)}`;
  }

  /** Interfaces that may send, as the host's table says, but for those of what is kept ahead. */
  async members(): Promise<string[]> {
    const table = await exec.run(['nft', 'list', 'table', 'inet', this.table]).catch(() => undefined);
    const names = /set egress \{[^}]*elements = \{([^}]*)\}/.exec(table?.stdout ?? '')?.[1]?.match(/tp\w+/g) ?? [];
    const kept = new Set((await this.ahead()).map((address) => this.nameAt(address)));
    return names.filter((name) => !kept.has(name));
  }

  /** Of the pool: slot records without an id. */
  async ahead(): Promise<string[]> {
    const names = (await readdir(this.slotsDir)).filter((name) => !name.startsWith('.'));
    const records = await Promise.all(names.map((name) => readFile(join(this.slotsDir, name), 'utf8')));
    return names.filter((_, index) => (JSON.parse(records[index] ?? '') as { id?: string }).id === undefined);
  }

  /** Ends all instances and removes what they made, the table too. */
  async close(): Promise<void> {
    for (const network of this.#opened) await network.close();
    const last = this.driver();
    await removeAll(last);
    await last.removeHostTableIfUnused();
    if (!this.sharesSlots) await rm(this.slotsDir, { recursive: true, force: true });
  }

  /** Of links and namespaces, made from the tag as the driver makes it. */
  get prefix(): string {
    return `tp${createHash('sha256').update(this.tag).digest('hex').slice(0, 6)}n`;
  }
}

async function removeAll(network: Network): Promise<void> {
  for (const id of await network.list()) await network.remove(id);
}

export async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
