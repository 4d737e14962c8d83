import { createHash } from 'node:crypto';
import type { Network, NetworkAttachment } from '../../../activities/host/ports.js';
import { DomainError } from '../../../workflows/contract/errors.js';
import type { NetworkCounters, NetworkPolicy } from '../../../workflows/contract/network-policy.js';
import { isDiskFull } from '../../errno.js';
import type { Exec } from '../../exec.js';
import { hostTable } from '../../host-tag.js';
import { KeyedMutex } from '../../keyed-mutex.js';
import { checkedId } from '../../sandbox-folder.js';
import { UndoStack } from '../../undo-stack.js';
import { type AddressSlot, AddressSlots } from './address-slots.js';
import { openTunNode } from './kernel-support.js';
import { NetworkPool } from './network-pool.js';
import { countersFrom, elementsOf, isUpWith } from './parse-output.js';
import { type CheckedPolicy, GUEST_TABLE, checkedPolicy, namespaceRules } from './policy-rules.js';
import { rateBatch } from './rate-limit.js';
import { type HostRuleNames, INNER, egressRules, forgetRules, hostRules, neverReached } from './rulesets.js';
import { NAMESPACES, SandboxDevices, insideBatch, namespaceOf, openForwarding } from './sandbox-devices.js';
import { type RunTool, allOf, toolRunner } from './tools.js';

/** One for the machine, not for the run directory of one worker: addresses are the machine's. */
const MACHINE_SLOTS = '/run/torpor/slots';
/** What networks are made with before anybody knows for whom: what most will want. No guest is behind them yet. */
const OPEN = checkedPolicy({ egress: true });

export interface NetnsOptions {
  /** Addresses for sandboxes, two each. */
  cidr: string;
  /** Tells the sandboxes, interfaces and rules of this host worker from those of others on the machine. */
  hostTag: string;
  /** Owner of the taps. */
  vmUser: string;
  exec: Exec;
  /** Where taken addresses are recorded; only tests have reason to change it. */
  slotsDir?: string | undefined;
  /** Where `ip netns` keeps namespaces; only tests have reason to change it. */
  namespacesDir?: string | undefined;
  /** How many networks are made ahead; none by default. What is kept ahead goes with `close`. */
  poolSize?: number | undefined;
  /** Limit of what a guest sends where its policy has none; none when absent. */
  txMegabitsPerSecond?: number | undefined;
  /** Told of what cannot be read, and of networks that cannot be made ahead. */
  warn?: ((fields: Record<string, unknown>, message: string) => void) | undefined;
}

/**
 * Per sandbox a namespace `sbx-<id>`, a veth pair made straight into it and a tap. The
 * slot file is taken first and freed last: it is how a half-made or half-removed network
 * is found again after a crash, and it says whether the network was finished.
 */
export class NetnsNetwork implements Network {
  readonly #slots: AddressSlots;
  readonly #host: HostRuleNames;
  readonly #run: RunTool;
  readonly #devices: SandboxDevices;
  readonly #pool: NetworkPool;
  readonly #never: string;
  readonly #locks = new KeyedMutex();
  /** A link of that name without a record is foreign, or a living sandbox's whose record was deleted. */
  readonly #isFree = async (slot: AddressSlot): Promise<boolean> => !(await this.#devices.hasLink(slot));

  constructor(private readonly options: NetnsOptions) {
    const {
      slotsDir = MACHINE_SLOTS,
      cidr,
      hostTag,
      vmUser,
      namespacesDir = NAMESPACES,
      poolSize = 0,
      warn = () => {},
    } = options;
    this.#host = {
      table: hostTable(hostTag),
      // Interface names have 15 characters: "tp", six of the tag's hash, "n", the slot in base 36.
      vethPrefix: `tp${createHash('sha256').update(hostTag).digest('hex').slice(0, 6)}n`,
      cidr,
    };
    this.#never = neverReached(cidr);
    this.#run = toolRunner(options.exec);
    this.#slots = new AddressSlots(slotsDir, cidr, hostTag, warn);
    this.#devices = new SandboxDevices(this.#run, this.#host.vethPrefix, vmUser, namespacesDir);
    this.#pool = new NetworkPool({
      slots: this.#slots,
      size: poolSize,
      recipe: this.#recipe(),
      make: (slot, signal) => this.#build(slot, undefined, OPEN, signal),
      verify: (slot) => this.#verify(slot),
      isThere: (slot) => this.#devices.areThere(slot),
      isFree: this.#isFree,
      remove: (slot) => this.#removeAll(slot, undefined),
      warn,
    });
  }

  /** Once at start, so that what the machine lacks is known before the first sandbox. */
  async ensureHostTable(): Promise<void> {
    await openTunNode();
    await openForwarding();
    await this.#nft(hostRules(this.#host));
    await this.#slots.sweepUnplaced();
    await this.#forgetLostLinks();
    this.#pool.open();
  }

  /** When the worker is taken off the machine. With sandboxes left the rules stay: they are what isolates them. */
  async removeHostTableIfUnused(): Promise<void> {
    await this.close();
    if ((await this.list()).length > 0) return;
    await this.#nft(`add table inet ${this.#host.table}\ndelete table inet ${this.#host.table}\n`);
  }

  /** When the worker ends in good order: what is kept ahead goes, what sandboxes have stays. */
  async close(): Promise<void> {
    await this.#pool.close();
  }

  /** When nothing is being made ahead any more. */
  async settled(): Promise<void> {
    await this.#pool.settled();
  }

  async ensure(id: string, policy: NetworkPolicy, signal?: AbortSignal): Promise<NetworkAttachment> {
    const checked = this.#checked(policy);
    return this.#locks.runExclusive(checkedId(id), async () => {
      const slot = await this.#slots.find(id);
      if (slot !== undefined && (await this.#isComplete(id, slot))) {
        await this.#applyTo(slot, checked, this.#devices.pathFor(id), signal);
        return attachmentAt(id, slot);
      }
      if (slot !== undefined) await this.#takeDown(id, slot);
      return this.#make(id, checked, signal);
    });
  }

  async apply(id: string, policy: NetworkPolicy, signal?: AbortSignal): Promise<void> {
    const checked = this.#checked(policy);
    await this.#locks.runExclusive(checkedId(id), async () => {
      const slot = await this.#slots.find(id);
      if (slot === undefined || !(await this.#isComplete(id, slot)))
        throw new DomainError('not_found', `${id} has no network on this host`);
      await this.#applyTo(slot, checked, this.#devices.pathFor(id), signal);
    });
  }

  async counters(id: string): Promise<NetworkCounters | undefined> {
    if ((await this.find(id)) === undefined) return undefined;
    const argv = ['nft', '-j', 'list', 'counters', 'table', 'ip', GUEST_TABLE];
    try {
      return countersFrom(await this.#run(['nsenter', `--net=${this.#devices.pathFor(id)}`, ...argv]));
    } catch (err) {
      // It may have been removed meanwhile.
      if ((await this.find(id)) === undefined) return undefined;
      throw err;
    }
  }

  async find(id: string): Promise<NetworkAttachment | undefined> {
    const slot = await this.#slots.find(checkedId(id));
    return slot !== undefined && (await this.#isComplete(id, slot)) ? attachmentAt(id, slot) : undefined;
  }

  async remove(id: string): Promise<void> {
    return this.#locks.runExclusive(checkedId(id), async () => {
      const slot = await this.#slots.find(id);
      if (slot !== undefined) await this.#takeDown(id, slot);
      else await this.#removeStray(id);
    });
  }

  /** By slot, and by the names that this host gave: slots are files, which somebody may have deleted. */
  async list(): Promise<string[]> {
    const [named, slots] = await Promise.all([this.#devices.named(), this.#slots.list()]);
    return [...new Set([...slots, ...named.keys()])];
  }

  #checked(policy: NetworkPolicy): CheckedPolicy {
    return checkedPolicy(policy, this.options.txMegabitsPerSecond);
  }

  async #make(id: string, policy: CheckedPolicy, signal: AbortSignal | undefined): Promise<NetworkAttachment> {
    signal?.throwIfAborted();
    if (await this.#devices.hasName(id)) await this.#removeStray(id);
    const ahead = await this.#pool.take();
    const slot = ahead ?? (await this.#slots.take({ id, complete: false }, this.#isFree));
    const undo = new UndoStack();
    undo.push(`network of ${id}`, () => this.#takeDown(id, slot));
    try {
      if (ahead === undefined) await this.#build(slot, id, policy, signal);
      else await this.#assign(slot, id, policy, signal);
      await this.#devices.name(slot, id);
      await this.#slots.setUse(slot, { id, complete: true });
      return attachmentAt(id, slot);
    } catch (err) {
      throw await undo.unwind(err);
    } finally {
      this.#pool.fill();
    }
  }

  /** Everything but the sandbox's name, in a slot that nothing is in. */
  async #build(
    slot: AddressSlot,
    id: string | undefined,
    policy: CheckedPolicy,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await this.#devices.make(slot, id, signal);
    await allOf([
      ...(await this.#devices.inside(slot, signal)),
      this.#rule(this.#devices.pathOf(slot), slot, policy, signal),
      this.#admit(slot, policy, signal),
      ...this.#limitNew(slot, policy, signal),
    ]);
  }

  /**
   * Makes one that was made ahead the sandbox's own: from the first line on it is found under its id. What it was made
   * with is not done again. That includes the host's rules, which the filling of the pool restores right afterwards.
   */
  async #assign(slot: AddressSlot, id: string, policy: CheckedPolicy, signal: AbortSignal | undefined): Promise<void> {
    await this.#slots.setUse(slot, { id, complete: false });
    await this.#devices.rename(slot, id);
    const isAsMade = this.#namespaceRules(slot, policy) === this.#namespaceRules(slot, OPEN);
    await allOf([
      ...(isAsMade ? [] : [this.#rule(this.#devices.pathOf(slot), slot, policy, signal)]),
      ...(policy.letsOut ? [] : [this.#nft(forgetRules(this.#host, this.#devices.nameOf(slot)), signal)]),
      ...this.#limitNew(slot, policy, signal),
    ]);
  }

  /** Of a network that is in use: each of the three changes at once, and a repetition changes nothing. */
  async #applyTo(
    slot: AddressSlot,
    policy: CheckedPolicy,
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await allOf([
      this.#rule(path, slot, policy, signal),
      this.#admit(slot, policy, signal),
      this.#limitRate(path, policy, signal),
    ]);
  }

  /** Takes no signal: half of it helps nobody, and undoing must not be cancelled. */
  async #takeDown(id: string, slot: AddressSlot): Promise<void> {
    await this.#slots.setUse(slot, { id, complete: false }).catch((err: unknown) => {
      // What is full is not emptied by keeping this; without its link, which goes first, it counts as half-made as well.
      if (!isDiskFull(err)) throw err;
    });
    await this.#removeAll(slot, id);
    await this.#slots.release(slot);
  }

  async #removeAll(slot: AddressSlot, id: string | undefined): Promise<void> {
    const forgotten = this.#nft(forgetRules(this.#host, this.#devices.nameOf(slot)));
    await allOf([this.#devices.remove(slot, id), forgotten]);
  }

  /** What bears the id's name though no slot record does. Where its slot went to another sandbox there is only the name. */
  async #removeStray(id: string): Promise<void> {
    const slot = this.#slots.numbered((await this.#devices.named()).get(id) ?? -1);
    if (slot === undefined) return;
    const use = await this.#slots.use(slot);
    if (use === undefined || use.id === id) await this.#takeDown(id, slot);
    else await this.#devices.unname(id);
  }

  /** Takes links that are gone out of the set of those that may go out: a new one of that name must ask for it. */
  async #forgetLostLinks(): Promise<void> {
    const members = elementsOf(await this.#run(['nft', '-j', 'list', 'set', 'inet', this.#host.table, 'egress']));
    const links = new Set(await this.#devices.links());
    const lost = members.filter((element) => !links.has(element));
    if (lost.length > 0) await this.#nft(lost.map((veth) => forgetRules(this.#host, veth)).join(''));
  }

  /** Of one that a dead worker made ahead: its devices are up, and its rules are made again. */
  async #verify(slot: AddressSlot): Promise<boolean> {
    const name = this.#devices.nameOf(slot);
    try {
      const addresses = await this.#run(['ip', '-n', name, '-json', 'address', 'show']);
      await this.#rule(this.#devices.pathOf(slot), slot, OPEN);
      return isUpWith(addresses, INNER.uplink, slot.guestSide) && isUpWith(addresses, INNER.tap, INNER.gateway);
    } catch {
      return false;
    }
  }

  /** Everything that goes into a network made ahead, so that another version or setting is told apart. */
  #recipe(): string {
    const slot = { index: 0, hostSide: '0.0.0.0', guestSide: '0.0.0.1' };
    const text = `${insideBatch(slot, this.options.vmUser)}${this.#namespaceRules(slot, OPEN)}`;
    return createHash('sha256').update(text).digest('hex').slice(0, 16);
  }

  /** `path`: of a new network the namespace's own, as the sandbox's name may not have been given yet. */
  #rule(path: string, slot: AddressSlot, policy: CheckedPolicy, signal?: AbortSignal): Promise<unknown> {
    return this.#run(['nsenter', `--net=${path}`, 'nft', '-f', '-'], this.#namespaceRules(slot, policy), signal);
  }

  #namespaceRules(slot: AddressSlot, policy: CheckedPolicy): string {
    return namespaceRules(slot.guestSide, this.#never, policy);
  }

  /** Lets the guest out, or not; with it the host's rules, should somebody have flushed them. */
  #admit(slot: AddressSlot, { letsOut }: CheckedPolicy, signal?: AbortSignal): Promise<unknown> {
    return this.#nft(`${hostRules(this.#host)}${egressRules(this.#host, this.#devices.nameOf(slot), letsOut)}`, signal);
  }

  /** A new network has no limit that one would have to take away. */
  #limitNew(slot: AddressSlot, policy: CheckedPolicy, signal: AbortSignal | undefined): Promise<unknown>[] {
    const isLimited = policy.txMegabitsPerSecond !== undefined;
    return isLimited ? [this.#limitRate(this.#devices.pathOf(slot), policy, signal)] : [];
  }

  #limitRate(path: string, policy: CheckedPolicy, signal: AbortSignal | undefined): Promise<unknown> {
    return this.#run(['nsenter', `--net=${path}`, 'tc', '-batch', '-'], rateBatch(policy.txMegabitsPerSecond), signal);
  }

  async #isComplete(id: string, slot: AddressSlot): Promise<boolean> {
    return (await this.#slots.use(slot))?.complete === true && (await this.#devices.areNamed(slot, id));
  }

  #nft(rules: string, signal?: AbortSignal): Promise<unknown> {
    return this.#run(['nft', '-f', '-'], rules, signal);
  }
}

function attachmentAt(id: string, slot: AddressSlot): NetworkAttachment {
  return { namespace: namespaceOf(id), tap: INNER.tap, mac: INNER.mac, hostAddress: slot.guestSide };
}
