import { createHash } from 'node:crypto';
import { access, readFile, writeFile } from 'node:fs/promises';
import type { Network, NetworkAttachment } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import type { NetworkCounters, NetworkPolicy } from '../../../workflows/contract/network-policy.js';
import type { Exec } from '../../exec.js';
import { hostTable } from '../../host-tag.js';
import { KeyedMutex } from '../../keyed-mutex.js';
import { checkedId, namesIn } from '../../sandbox-folder.js';
import { UndoStack } from '../../undo-stack.js';
import { type AddressSlot, AddressSlots } from './address-slots.js';
import { lackOr, openTunNode } from './kernel-support.js';
import { type HostRuleNames, INNER, egressRules, forgetRules, hostRules, namespaceRules } from './rulesets.js';

const FORWARDING = '/proc/sys/net/ipv4/ip_forward';
/** One for the machine, not for the run directory of one worker: addresses are the machine's. */
const MACHINE_SLOTS = '/run/torpor/slots';
const ID_IN_NAMESPACE = /^sbx-(.+)$/;

export interface NetnsOptions {
  /** Addresses for sandboxes, two each. */
  cidr: string;
  /** Tells the sandboxes, interfaces and rules of this host worker from those of others on the machine. */
  hostTag: string;
  /** Owner of the taps. */
  vmUser: string;
  exec: Exec;
  /** Where taken addresses are recorded; only tests have reason to change it. */
  slotsDir?: string;
  /** Limit of what a guest sends; none when absent. */
  txMegabitsPerSecond?: number;
  /** Told of what cannot be read. */
  warn?: (fields: Record<string, unknown>, message: string) => void;
}

/**
 * Per sandbox a namespace `sbx-<id>`, a veth pair made straight into it and a tap. The
 * slot file is taken first and freed last: it is how a half-made or half-removed network
 * is found again after a crash, and it says whether the network was finished.
 */
export class NetnsNetwork implements Network {
  readonly #slots: AddressSlots;
  readonly #host: HostRuleNames;
  readonly #locks = new KeyedMutex();

  constructor(private readonly options: NetnsOptions) {
    const { slotsDir = MACHINE_SLOTS, cidr, hostTag, warn } = options;
    this.#slots = new AddressSlots(slotsDir, cidr, hostTag, warn);
    this.#host = {
      table: hostTable(options.hostTag),
      // Interface names have 15 characters: "tp", six of the tag's hash, "n", the slot in base 36.
      vethPrefix: `tp${createHash('sha256').update(options.hostTag).digest('hex').slice(0, 6)}n`,
      cidr: options.cidr,
    };
  }

  /** Once at start, so that what the machine lacks is known before the first sandbox. */
  async ensureHostTable(): Promise<void> {
    await openTunNode();
    if ((await readFile(FORWARDING, 'utf8')).trim() !== '1') await writeFile(FORWARDING, '1');
    await this.#nft(hostRules(this.#host));
    await this.#slots.sweepUnplaced();
    await this.#forgetLostLinks();
  }

  /** When the worker is taken off the machine. With sandboxes left the rules stay: they are what isolates them. */
  async removeHostTableIfUnused(): Promise<void> {
    if ((await this.list()).length > 0) return;
    await this.#nft(`add table inet ${this.#host.table}\ndelete table inet ${this.#host.table}\n`);
  }

  async ensure(id: string, options: NetworkPolicy, signal?: AbortSignal): Promise<NetworkAttachment> {
    return this.#locks.runExclusive(checkedId(id), async () => {
      const slot = await this.#slots.find(id);
      if (slot === undefined) return this.#make(id, options.egress, signal);
      if (await this.#isComplete(id, slot)) {
        await this.#admit(slot, options.egress, signal);
        return attachmentAt(id, slot);
      }
      await this.#takeDown(id, slot);
      return this.#make(id, options.egress, signal);
    });
  }

  async apply(id: string, policy: NetworkPolicy, signal?: AbortSignal): Promise<void> {
    if ((await this.find(id)) === undefined) throw new DomainError('not_found', `${id} has no network on this host`);
    await this.ensure(id, policy, signal);
  }

  async counters(id: string): Promise<NetworkCounters | undefined> {
    const slot = await this.#slots.find(checkedId(id));
    if (slot === undefined) return undefined;
    // Of the host's end of the pair: what the guest sends is received there.
    const read = async (name: string) => {
      const text = await readFile(`/sys/class/net/${this.#veth(slot)}/statistics/${name}`, 'utf8');
      return Number(text);
    };
    const [sentBytes, sentPackets, receivedBytes, receivedPackets] = await Promise.all(
      ['rx_bytes', 'rx_packets', 'tx_bytes', 'tx_packets'].map(read),
    );
    return { sentBytes, sentPackets, receivedBytes, receivedPackets, deniedPackets: 0 } as NetworkCounters;
  }

  async find(id: string): Promise<NetworkAttachment | undefined> {
    const slot = await this.#slots.find(checkedId(id));
    return slot !== undefined && (await this.#isComplete(id, slot)) ? attachmentAt(id, slot) : undefined;
  }

  async remove(id: string): Promise<void> {
    return this.#locks.runExclusive(checkedId(id), async () => {
      const slot = (await this.#slots.find(id)) ?? (await this.#linkedIds()).get(id);
      if (slot !== undefined) await this.#takeDown(id, slot);
    });
  }

  /** By slot, and by the names that this host's links bear: slots are files, which somebody may have deleted. */
  async list(): Promise<string[]> {
    const [links, slots] = await Promise.all([this.#linkedIds(), this.#slots.list()]);
    return [...new Set([...slots, ...links.keys()])];
  }

  /** This host's links by the id that they bear, with the slot that they belong to. */
  async #linkedIds(): Promise<Map<string, AddressSlot>> {
    const found = new Map<string, AddressSlot>();
    for (const link of await this.#links()) {
      const alias = await readFile(`/sys/class/net/${link}/ifalias`, 'utf8').catch(() => '');
      const id = ID_IN_NAMESPACE.exec(alias.trim())?.[1];
      const slot = this.#slots.numbered(Number.parseInt(link.slice(this.#host.vethPrefix.length), 36));
      if (id !== undefined && slot !== undefined) found.set(id, slot);
    }
    return found;
  }

  async #links(): Promise<string[]> {
    return (await namesIn('/sys/class/net')).filter((name) => name.startsWith(this.#host.vethPrefix));
  }

  /** Takes links that are gone out of the set of those that may go out: a new one of that name must ask for it. */
  async #forgetLostLinks(): Promise<void> {
    const { stdout } = await this.options.exec.run(['nft', '-j', 'list', 'set', 'inet', this.#host.table, 'egress']);
    const links = new Set(await this.#links());
    const lost = elementsOf(stdout).filter((element) => !links.has(element));
    if (lost.length > 0) await this.#nft(lost.map((veth) => forgetRules(this.#host, veth)).join(''));
  }

  async #make(id: string, egress: boolean, signal: AbortSignal | undefined): Promise<NetworkAttachment> {
    signal?.throwIfAborted();
    const slot = await this.#slots.take(id);
    const undo = new UndoStack();
    undo.push(`network of ${id}`, () => this.#takeDown(id, slot));
    try {
      const namespace = namespaceOf(id);
      await this.#run(['ip', '-batch', '-'], hostSideBatch(namespace, this.#veth(slot), slot), signal);
      const enter = ['nsenter', `--net=/run/netns/${namespace}`];
      await allOf([
        this.#run(['ip', '-n', namespace, '-batch', '-'], insideBatch(slot, this.options.vmUser), signal),
        this.#run([...enter, 'tee', ...(await switchesInside())], '1\n', signal),
        this.#run([...enter, 'nft', '-f', '-'], namespaceRules(slot.guestSide), signal),
        this.#admit(slot, egress, signal),
      ]);
      await this.#limitRate(namespace, signal);
      await this.#slots.setComplete(id, slot, true);
      return attachmentAt(id, slot);
    } catch (err) {
      throw await undo.unwind(err);
    }
  }

  /** Takes no signal: half of it helps nobody, and undoing must not be cancelled. */
  async #takeDown(id: string, slot: AddressSlot): Promise<void> {
    await this.#slots.setComplete(id, slot, false);
    const removal = this.#removeDevices(namespaceOf(id), this.#veth(slot));
    await allOf([removal, this.#nft(forgetRules(this.#host, this.#veth(slot)))]);
    await this.#slots.release(slot);
  }

  /**
   * The veth goes by name: with its namespace alone the kernel would remove it some time
   * later, and never while a process is left in there.
   */
  async #removeDevices(namespace: string, veth: string): Promise<void> {
    const left = async (): Promise<string[]> => [
      ...((await exists(`/sys/class/net/${veth}`)) ? [`link del dev ${veth}`] : []),
      ...((await exists(`/run/netns/${namespace}`)) ? [`netns del ${namespace}`] : []),
    ];
    for (const command of await left()) {
      try {
        await this.#run(['ip', ...command.split(' ')], '');
      } catch (err) {
        // The kernel may have been removing it already.
        if ((await left()).includes(command)) throw err;
      }
    }
  }

  /** Lets the guest out, or not; with it the host's rules, should somebody have flushed them. */
  #admit(slot: AddressSlot, egress: boolean, signal?: AbortSignal): Promise<void> {
    return this.#nft(`${hostRules(this.#host)}${egressRules(this.#host, this.#veth(slot), egress)}`, signal);
  }

  async #limitRate(namespace: string, signal: AbortSignal | undefined): Promise<void> {
    const rate = this.options.txMegabitsPerSecond;
    if (rate === undefined) return;
    const limit = ['tbf', 'rate', `${rate}mbit`, 'burst', '1mb', 'latency', '50ms'];
    await this.#run(['tc', '-n', namespace, 'qdisc', 'replace', 'dev', INNER.uplink, 'root', ...limit], '', signal);
  }

  async #isComplete(id: string, slot: AddressSlot): Promise<boolean> {
    return (
      (await this.#slots.isComplete(slot)) &&
      (await exists(`/run/netns/${namespaceOf(id)}`)) &&
      (await exists(`/sys/class/net/${this.#veth(slot)}`))
    );
  }

  #veth(slot: AddressSlot): string {
    return `${this.#host.vethPrefix}${slot.index.toString(36)}`;
  }

  #nft(rules: string, signal?: AbortSignal): Promise<void> {
    return this.#run(['nft', '-f', '-'], rules, signal);
  }

  async #run(argv: string[], input: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.options.exec.run(argv, { input, signal });
    } catch (err) {
      throw lackOr(err);
    }
  }
}

function attachmentAt(id: string, slot: AddressSlot): NetworkAttachment {
  return { namespace: namespaceOf(id), tap: INNER.tap, mac: INNER.mac, hostAddress: slot.guestSide };
}

function namespaceOf(id: string): string {
  return `sbx-${id}`;
}

/** The names in what \`nft -j list set\` prints. */
function elementsOf(json: string): string[] {
  const { nftables } = JSON.parse(json) as { nftables: { set?: { elem?: unknown[] } }[] };
  return nftables.flatMap(({ set }) => set?.elem ?? []).filter((element) => typeof element === 'string');
}

/** The link bears the name of its namespace, which says whose it is even when its slot is lost. */
function hostSideBatch(namespace: string, veth: string, slot: AddressSlot): string {
  return `
netns add ${namespace}
link add ${veth} type veth peer name ${INNER.uplink} netns ${namespace}
addr add ${slot.hostSide}/31 dev ${veth}
link set dev ${veth} alias ${namespace} up
`;
}

/** The guest's hardware address is told rather than asked for: a question lost while it starts is only repeated after a second. */
function insideBatch(slot: AddressSlot, vmUser: string): string {
  return `
link set dev lo up
addr add ${slot.guestSide}/31 dev ${INNER.uplink}
link set dev ${INNER.uplink} up
route add default via ${slot.hostSide}
tuntap add dev ${INNER.tap} mode tap user ${vmUser}
link set dev ${INNER.tap} address ${INNER.gatewayMac} txqueuelen 5000
addr add ${INNER.gateway}/${INNER.prefix} dev ${INNER.tap}
link set dev ${INNER.tap} up
neigh add ${INNER.guest} lladdr ${INNER.mac} dev ${INNER.tap} nud permanent
`;
}

/** Forwarding on and IPv6 off; where the machine has no IPv6 there is nothing to turn off. */
async function switchesInside(): Promise<string[]> {
  const ipv6 = '/proc/sys/net/ipv6/conf';
  const off = (await exists(ipv6)) ? [`${ipv6}/all/disable_ipv6`, `${ipv6}/default/disable_ipv6`] : [];
  return [FORWARDING, ...off];
}

/** Waits for all even if one fails: an undo must not race what is still being made. */
async function allOf(work: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
