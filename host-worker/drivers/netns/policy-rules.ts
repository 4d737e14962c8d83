import type { NetworkPolicy } from '../../../workflows/contract/network-policy.js';
import { type DestinationElements, destinationElements } from './policy-destinations.js';
import { checkedRate } from './rate-limit.js';
import { INNER } from './rulesets.js';

/** In every namespace, so that it is found by the same words everywhere: `ip netns exec sbx-<id> nft list table ip torpor`. */
export const GUEST_TABLE = 'torpor';

/** A policy that was checked and can be turned into rules. */
export interface CheckedPolicy {
  egress: boolean;
  dns: boolean | undefined;
  allow: DestinationElements;
  deny: DestinationElements;
  txMegabitsPerSecond: number | undefined;
  /** Whether it lets anything out at all. */
  letsOut: boolean;
}

/** Throws `invalid_request`, naming the field, its value and what would be right. */
export function checkedPolicy(policy: NetworkPolicy, defaultMegabits?: number): CheckedPolicy {
  const { egress, dns } = policy;
  const allow = destinationElements('allow', policy);
  return {
    egress,
    dns,
    allow,
    deny: destinationElements('deny', policy),
    txMegabitsPerSecond: checkedRate(policy.txMegabitsPerSecond ?? defaultMegabits),
    letsOut: egress || dns === true || allow.addresses.length + allow.ports.length > 0,
  };
}

/** Rules and sets of a namespace as one transaction, whatever was there before; its counters go on counting. */
export function namespaceRules(guestSide: string, never: string, policy: CheckedPolicy): string {
  const fill = (set: string, elements: readonly string[]) =>
    elements.length === 0 ? '' : `add element ip ${GUEST_TABLE} ${set} { ${elements.join(', ')} }\n`;
  return `${frame()}
${fill('never', [never])}${fill('allow_address', policy.allow.addresses)}${fill('allow_port', policy.allow.ports)}\
${fill('deny_address', policy.deny.addresses)}${fill('deny_port', policy.deny.ports)}
${fixedRules(guestSide)}
${verdicts('outward', 'daddr', 'dport', 'refuse', policy)}
${verdicts('inward', 'saddr', 'sport', 'cut', policy)}`.replaceAll(/\n{2,}/g, '\n');
}

/** Tables, sets, counters and chains, emptied of what they held before; counters keep their numbers. */
function frame(): string {
  const sets = ['never', 'allow_address', 'deny_address', 'allow_port', 'deny_port'];
  const typeOf = (set: string) => (set.endsWith('_port') ? 'ipv4_addr . inet_proto . inet_service' : 'ipv4_addr');
  return `
add table ip ${GUEST_TABLE}
${['sent', 'received', 'denied'].map((name) => `add counter ip ${GUEST_TABLE} ${name}`).join('\n')}
${sets.map((set) => `add set ip ${GUEST_TABLE} ${set} { type ${typeOf(set)}; flags interval; }`).join('\n')}
add chain ip ${GUEST_TABLE} count_sent { type filter hook prerouting priority raw; }
add chain ip ${GUEST_TABLE} count_received { type filter hook postrouting priority 300; }
add chain ip ${GUEST_TABLE} prerouting { type nat hook prerouting priority dstnat; }
add chain ip ${GUEST_TABLE} postrouting { type nat hook postrouting priority srcnat; }
add chain ip ${GUEST_TABLE} input { type filter hook input priority filter; }
add chain ip ${GUEST_TABLE} forward { type filter hook forward priority filter; policy drop; }
${['outward', 'inward', 'refuse', 'cut'].map((chain) => `add chain ip ${GUEST_TABLE} ${chain}`).join('\n')}
flush table ip ${GUEST_TABLE}
${sets.map((set) => `flush set ip ${GUEST_TABLE} ${set}`).join('\n')}
`;
}

/**
 * What the host sends to the namespace's address goes to the guest, and the guest appears under that address. The guest
 * cannot talk to the namespace itself. What is refused is told so: a program that waits for an answer holds up its user.
 */
function fixedRules(guestSide: string): string {
  return `
count_sent iifname "${INNER.tap}" counter name sent
count_received oifname "${INNER.tap}" counter name received
prerouting iifname "${INNER.uplink}" ip daddr ${guestSide} dnat to ${INNER.guest}
postrouting oifname "${INNER.uplink}" masquerade
input iifname "${INNER.tap}" drop
forward iifname "${INNER.tap}" oifname "${INNER.uplink}" ip saddr ${INNER.guest} goto outward
forward iifname "${INNER.uplink}" oifname "${INNER.tap}" goto inward
outward ct direction reply ct state established,related accept
inward ct direction original accept
inward ct state related accept
refuse counter name denied
refuse meta l4proto tcp reject with tcp reset
refuse reject with icmp type admin-prohibited
cut meta l4proto tcp reject with tcp reset
cut drop
`
    .trim()
    .replaceAll(/^/gm, `add rule ip ${GUEST_TABLE} `);
}

/**
 * The policy, asked of every packet and not only of the first of a connection, so that those that a new policy forbids end.
 * Answers are asked the same question from the other side: a server might go on sending to a guest that cannot object.
 */
function verdicts(chain: string, address: string, port: string, no: string, policy: CheckedPolicy): string {
  const dns =
    policy.dns === undefined ? [] : [`meta l4proto { tcp, udp } th ${port} 53 ${policy.dns ? 'accept' : `goto ${no}`}`];
  return [
    `ip ${address} @never goto ${no}`,
    ...dns,
    `ip ${address} @allow_address accept`,
    `ip ${address} . meta l4proto . th ${port} @allow_port accept`,
    `ip ${address} @deny_address goto ${no}`,
    `ip ${address} . meta l4proto . th ${port} @deny_port goto ${no}`,
    policy.egress ? 'accept' : `goto ${no}`,
  ]
    .map((rule) => `add rule ip ${GUEST_TABLE} ${chain} ${rule}`)
    .join('\n');
}
