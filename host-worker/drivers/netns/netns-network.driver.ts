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
import { type AheadNetwork, NetworkPool, type PoolKind } from './network-pool.js';
import { isUpWith } from './parse-output.js';
import { type CheckedPolicy, checkedPolicy } from './policy-rules.js';
import { INNER } from './rulesets.js';
import { NAMESPACES, SandboxDevices, insideBatch, namespaceOf, openForwarding } from './sandbox-devices.js';
import { SandboxRules } from './sandbox-rules.js';
import { type RunTool, allOf, toolRunner } from './tools.js';

/** One for the machine, not for the run directory of one worker: addresses are the machine's. */
const MACHINE_SLOTS = '/run/torpor/slots';
/** What networks are made with before anybody knows for whom: what most will want. No guest is behind them yet. */
const AHEAD = { open: { egress: true }, closed: { egress: false } } satisfies Record<string, NetworkPolicy>;

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
  readonly #run: RunTool;
  readonly #devices: SandboxDevices;
  readonly #pool: NetworkPool;
  readonly #open: PoolKind;
  readonly #closed: PoolKind;
  readonly #rules: SandboxRules;
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
    const host = {
      table: hostTable(hostTag),
      // Interface names have 15 characters: "tp", six of the tag's hash, "n", the slot in base 36.
      vethPrefix: `tp${createHash('sha256').update(hostTag).digest('hex').slice(0, 6)}n`,
      cidr,
    };
    this.#run = toolRunner(options.exec);
    this.#slots = new AddressSlots(slotsDir, cidr, hostTag, warn);
    this.#devices = new SandboxDevices(this.#run, host.vethPrefix, vmUser, namespacesDir);
    this.#rules = new SandboxRules(this.#run, host, this.#devices);
    this.#open = this.#kind(AHEAD.open);
    this.#closed = this.#kind(AHEAD.closed);
    this.#pool = new NetworkPool({
      slots: this.#slots,
      size: poolSize,
      kinds: [this.#open, this.#closed],
      make: ({ slot, kind }, signal) => this.#build(slot, undefined, kind.policy, signal),
      verify: (ahead) => this.#verify(ahead),
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
    await this.#rules.ensureHostTable();
    await this.#slots.sweepUnplaced();
    await this.#rules.forgetLostLinks();
    this.#pool.open();
  }

  /** When the worker is taken off the machine. With sandboxes left the rules stay: they are what isolates them. */
  async removeHostTableIfUnused(): Promise<void> {
    await this.close();
    if ((await this.list()).length > 0) return;
    await this.#rules.removeHostTable();
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
        await this.#rules.replace(this.#devices.pathFor(id), slot, checked, signal);
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
      await this.#rules.replace(this.#devices.pathFor(id), slot, checked, signal);
    });
  }

  async counters(id: string): Promise<NetworkCounters | undefined> {
    if ((await this.find(id)) === undefined) return undefined;
    try {
      return await this.#rules.counters(this.#devices.pathFor(id));
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
    const ahead = await this.#pool.take(policy.letsOut ? this.#open : this.#closed);
    const slot = ahead?.slot ?? (await this.#slots.take({ id, complete: false }, this.#isFree));
    const undo = new UndoStack();
    undo.push(`network of ${id}`, () => this.#takeDown(id, slot));
    try {
      if (ahead === undefined) await this.#build(slot, id, policy, signal);
      else await this.#assign(ahead, id, policy, signal);
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
    await allOf([...(await this.#devices.inside(slot, signal)), ...this.#rules.make(slot, policy, signal)]);
  }

  /**
   * Makes one that was made ahead the sandbox's own: from the first line on it is found under its id. What it was made
   * with is not done again. That includes the host's rules, which the filling of the pool restores right afterwards.
   */
  async #assign(
    { slot, kind }: AheadNetwork,
    id: string,
    policy: CheckedPolicy,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await this.#slots.setUse(slot, { id, complete: false });
    await this.#devices.rename(slot, id);
    await allOf(this.#rules.turn(slot, kind.policy, policy, signal));
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
    await allOf([this.#devices.remove(slot, id), this.#rules.forget(slot)]);
  }

  /** What bears the id's name though no slot record does. Where its slot went to another sandbox there is only the name. */
  async #removeStray(id: string): Promise<void> {
    const slot = this.#slots.numbered((await this.#devices.named()).get(id) ?? -1);
    if (slot === undefined) return;
    const use = await this.#slots.use(slot);
    if (use === undefined || use.id === id) await this.#takeDown(id, slot);
    else await this.#devices.unname(id);
  }

  /** Of one that a dead worker made ahead: its devices are up, and its rules are made again. */
  async #verify({ slot, kind }: AheadNetwork): Promise<boolean> {
    const name = this.#devices.nameOf(slot);
    try {
      const addresses = await this.#run(['ip', '-n', name, '-json', 'address', 'show']);
      await allOf(this.#rules.make(slot, kind.policy));
      return isUpWith(addresses, INNER.uplink, slot.guestSide) && isUpWith(addresses, INNER.tap, INNER.gateway);
    } catch {
      return false;
    }
  }

  /** Everything that goes into a network made ahead is in its recipe, so that another version or setting is told apart. */
  #kind(wanted: NetworkPolicy): PoolKind {
    const policy = this.#checked(wanted);
    const slot = { index: 0, hostSide: '0.0.0.0', guestSide: '0.0.0.1' };
    const text = `${insideBatch(slot, this.options.vmUser)}${this.#rules.text(slot, policy)}${policy.txMegabitsPerSecond}`;
    return { policy, recipe: createHash('sha256').update(text).digest('hex').slice(0, 16) };
  }

  async #isComplete(id: string, slot: AddressSlot): Promise<boolean> {
    return (await this.#slots.use(slot))?.complete === true && (await this.#devices.areNamed(slot, id));
  }
}

function attachmentAt(id: string, slot: AddressSlot): NetworkAttachment {
  return { namespace: namespaceOf(id), tap: INNER.tap, mac: INNER.mac, hostAddress: slot.guestSide };
}
