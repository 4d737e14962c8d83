/**
 * What a guest may send, and how fast. Decided in this order, whatever the order in the lists:
 *
 * 1. Never: the host at any of its addresses, other guests, the addresses where clouds keep their metadata (link-local ones and
 *    two more), and IPv6.
 * 2. DNS (port 53, TCP and UDP) where `dns` is true; never where it is false. Where it is absent it goes with the rest.
 * 3. What `allow` names goes out.
 * 4. What `deny` names does not.
 * 5. Everything else goes out if `egress` is true.
 *
 * That what is allowed wins over what is denied is what clients of the E2B protocol expect of `allowOut` and `denyOut`.
 */
export interface NetworkPolicy {
  egress: boolean;
  allow?: readonly Destination[];
  deny?: readonly Destination[];
  dns?: boolean;
  /** Limit of what the guest sends, in megabits (10^6 bits) per second; none when absent. */
  txMegabitsPerSecond?: number;
}

export interface Destination {
  /** IPv4 network, such as `10.0.0.0/8`, or one address. */
  cidr: string;
  /** One port or a range such as `8000-8100`, of TCP and UDP unless `protocol` says which; all when absent. */
  ports?: string;
  protocol?: 'tcp' | 'udp';
}

/** Of what was written before there were policies only `egress` is known. */
export function networkPolicyOf({
  network,
  egress,
}: {
  network?: NetworkPolicy | null | undefined;
  egress: boolean;
}): NetworkPolicy {
  return network ?? { egress };
}

/** What passed a guest's interface since its network was made; `sent` is what the guest sent. */
export interface NetworkCounters {
  sentBytes: number;
  sentPackets: number;
  receivedBytes: number;
  receivedPackets: number;
  /** Packets of the guest that the policy held back. */
  deniedPackets: number;
}
