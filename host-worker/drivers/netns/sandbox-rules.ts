import type { NetworkCounters } from '../../../workflows/contract/network-policy.js';
import type { AddressSlot } from './address-slots.js';
import { countersFrom, elementsOf } from './parse-output.js';
import { type CheckedPolicy, GUEST_TABLE, namespaceRules } from './policy-rules.js';
import { rateBatch } from './rate-limit.js';
import { type HostRuleNames, egressRules, forgetRules, hostRules, neverReached } from './rulesets.js';
import type { SandboxDevices } from './sandbox-devices.js';
import { type RunTool, allOf } from './tools.js';

/**
 * What a guest may send is said in three places: by the rules of its namespace, by its link's membership in a set of the
 * host's, and by a queueing discipline. Each is changed at once and can be told again what it is; parts that are answered
 * as a list can run at the same time as others.
 */
export class SandboxRules {
  readonly #never: string;

  constructor(
    private readonly run: RunTool,
    private readonly host: HostRuleNames,
    private readonly devices: SandboxDevices,
  ) {
    this.#never = neverReached(host.cidr);
  }

  async ensureHostTable(): Promise<void> {
    await this.#nft(hostRules(this.host));
  }

  async removeHostTable(): Promise<void> {
    const { table } = this.host;
    await this.#nft(`add table inet ${table}\ndelete table inet ${table}\n`);
  }

  /** As the namespace of a slot is told them. */
  text(slot: Pick<AddressSlot, 'guestSide'>, policy: CheckedPolicy): string {
    return namespaceRules(slot.guestSide, this.#never, policy);
  }

  /** Of a network that is being made. */
  make(slot: AddressSlot, policy: CheckedPolicy, signal?: AbortSignal): Promise<unknown>[] {
    const path = this.devices.pathOf(slot);
    return [
      this.inNamespace(path, slot, policy, signal),
      this.#admit(slot, policy, signal),
      ...this.#limitNew(slot, policy, signal),
    ];
  }

  /** Of one that was made with another policy and that nothing uses yet: only what differs. */
  turn(slot: AddressSlot, made: CheckedPolicy, policy: CheckedPolicy, signal?: AbortSignal): Promise<unknown>[] {
    const path = this.devices.pathOf(slot);
    const isAsMade = this.text(slot, policy) === this.text(slot, made);
    return [
      ...(isAsMade ? [] : [this.inNamespace(path, slot, policy, signal)]),
      ...(policy.letsOut === made.letsOut ? [] : [this.#admit(slot, policy, signal)]),
      ...(policy.txMegabitsPerSecond === made.txMegabitsPerSecond ? [] : [this.#limitRate(path, policy, signal)]),
    ];
  }

  /** Of a network in use; `path` is its namespace. A repetition changes nothing. */
  async replace(path: string, slot: AddressSlot, policy: CheckedPolicy, signal?: AbortSignal): Promise<void> {
    await allOf([
      this.inNamespace(path, slot, policy, signal),
      this.#admit(slot, policy, signal),
      this.#limitRate(path, policy, signal),
    ]);
  }

  /** `path`: of a new network the namespace's own, as the sandbox's name may not have been given yet. */
  inNamespace(path: string, slot: AddressSlot, policy: CheckedPolicy, signal?: AbortSignal): Promise<unknown> {
    return this.run(['nsenter', `--net=${path}`, 'nft', '-f', '-'], this.text(slot, policy), signal);
  }

  /** The host forgets the link; what is in a namespace goes with it. */
  forget(slot: AddressSlot, signal?: AbortSignal): Promise<unknown> {
    return this.#nft(forgetRules(this.host, this.devices.nameOf(slot)), signal);
  }

  /** Takes links that are gone out of the set of those that may go out: a new one of that name must ask for it. */
  async forgetLostLinks(): Promise<void> {
    const members = elementsOf(await this.run(['nft', '-j', 'list', 'set', 'inet', this.host.table, 'egress']));
    const links = new Set(await this.devices.links());
    const lost = members.filter((element) => !links.has(element));
    if (lost.length > 0) await this.#nft(lost.map((veth) => forgetRules(this.host, veth)).join(''));
  }

  async counters(path: string): Promise<NetworkCounters> {
    const argv = ['nft', '-j', 'list', 'counters', 'table', 'ip', GUEST_TABLE];
    return countersFrom(await this.run(['nsenter', `--net=${path}`, ...argv]));
  }

  /** Lets the guest out, or not; with it the host's rules, should somebody have flushed them. */
  #admit(slot: AddressSlot, { letsOut }: CheckedPolicy, signal?: AbortSignal): Promise<unknown> {
    return this.#nft(`${hostRules(this.host)}${egressRules(this.host, this.devices.nameOf(slot), letsOut)}`, signal);
  }

  /** A new network has no limit that one would have to take away. */
  #limitNew(slot: AddressSlot, policy: CheckedPolicy, signal: AbortSignal | undefined): Promise<unknown>[] {
    const isLimited = policy.txMegabitsPerSecond !== undefined;
    return isLimited ? [this.#limitRate(this.devices.pathOf(slot), policy, signal)] : [];
  }

  #limitRate(path: string, policy: CheckedPolicy, signal: AbortSignal | undefined): Promise<unknown> {
    return this.run(['nsenter', `--net=${path}`, 'tc', '-batch', '-'], rateBatch(policy.txMegabitsPerSecond), signal);
  }

  #nft(rules: string, signal?: AbortSignal): Promise<unknown> {
    return this.run(['nft', '-f', '-'], rules, signal);
  }
}
