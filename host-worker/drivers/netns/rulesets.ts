import { merged, networkOf, parseCidr, rangeText, toNumber } from './address-range.js';

/**
 * Fixed in every sandbox; the namespace keeps them apart. The gateway's hardware address
 * too: a restored guest remembers it and would send into the void for seconds otherwise.
 */
export const INNER = {
  gateway: '169.254.0.22',
  guest: '169.254.0.21',
  prefix: 30,
  mac: '02:fc:00:00:00:05',
  gatewayMac: '02:fc:00:00:00:16',
  tap: 'tap0',
  uplink: 'eth0',
} as const;

/**
 * No guest sends there, whatever its policy: to this machine, to groups, and to link-local addresses, where clouds keep
 * their metadata and credentials. Two clouds keep theirs elsewhere: Alibaba's and Azure's addresses stand alone.
 */
const NEVER: readonly (readonly [address: string, bits: number])[] = [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 3],
  ['100.100.100.200', 32],
  ['168.63.129.16', 32],
];

/** With the range that the sandboxes of this host have their addresses from; as elements of a set. */
export function neverReached(cidr: string): string {
  const { first, size } = parseCidr(cidr);
  const fixed = NEVER.map(([address, bits]) => networkOf(toNumber(address), bits));
  return merged([...fixed, { first, last: first + size - 1 }])
    .map(rangeText)
    .join(', ');
}

export interface HostRuleNames {
  table: string;
  vethPrefix: string;
  cidr: string;
}

/**
 * The host's only rules, the same for any number of sandboxes: interfaces are told by
 * their prefix, and egress is membership in a set. Applying it again keeps that set.
 *
 * - No guest opens a connection to the host, at any of its addresses; it may answer.
 * - No guest reaches another, of this host worker or of any other on the machine.
 * - Nothing from outside opens a connection to a guest.
 * - With egress, a guest reaches the world as far as the rules of its namespace say.
 */
export function hostRules(host: HostRuleNames): string {
  const guests = `"${host.vethPrefix}*"`;
  return `
add table inet ${host.table}
add set inet ${host.table} egress { type ifname; }
add chain inet ${host.table} input { type filter hook input priority filter; }
add chain inet ${host.table} forward { type filter hook forward priority filter; }
add chain inet ${host.table} postrouting { type nat hook postrouting priority srcnat; }
flush chain inet ${host.table} input
flush chain inet ${host.table} forward
flush chain inet ${host.table} postrouting
add rule inet ${host.table} input iifname ${guests} ct state established,related accept
add rule inet ${host.table} input iifname ${guests} drop
add rule inet ${host.table} forward iifname ${guests} oifname ${guests} drop
add rule inet ${host.table} forward oifname ${guests} ct state established,related accept
add rule inet ${host.table} forward oifname ${guests} drop
add rule inet ${host.table} forward iifname ${guests} meta nfproto ipv6 drop
add rule inet ${host.table} forward iifname ${guests} ip daddr { ${neverReached(host.cidr)} } drop
add rule inet ${host.table} forward iifname ${guests} iifname @egress accept
add rule inet ${host.table} forward iifname ${guests} drop
add rule inet ${host.table} postrouting ip saddr ${host.cidr} oifname != "lo" oifname != ${guests} masquerade
`;
}

/** Goes into the same transaction as the rules, so that no guest ever runs without them. */
export function egressRules(host: { table: string }, veth: string, egress: boolean): string {
  // Deleting an element that is not there fails, so it is added first.
  const add = `add element inet ${host.table} egress { "${veth}" }\n`;
  return egress ? add : `${add}delete element inet ${host.table} egress { "${veth}" }\n`;
}

/** Forgets an interface, also when the table is gone. */
export function forgetRules(host: { table: string }, veth: string): string {
  return `add table inet ${host.table}\nadd set inet ${host.table} egress { type ifname; }\n${egressRules(host, veth, false)}`;
}
