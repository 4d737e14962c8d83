import { InvalidArgumentError, type Command } from 'commander';
import { positiveInteger } from '../option-values.js';
import type { Destination, NetworkPolicy } from '../rest-types.js';

/** What was given on the command line; what was not is undefined. `false` is the `--no-` form. */
export interface NetworkOptions {
  egress?: boolean;
  allow?: Destination[] | false;
  deny?: Destination[] | false;
  dns?: boolean | 'auto';
  txMbps?: number | false;
}

export const DESTINATION_TERMS = {
  title: 'Destinations:',
  rows: [
    ['10.0.0.0/8', 'an IPv4 network, all ports'],
    ['10.1.2.3:443', 'one address, one port, TCP and UDP'],
    ['10.0.0.0/8:8000-8100/tcp', 'a network, a range of ports, TCP only'],
    ['10.0.0.0/8/udp', 'a network, all ports, UDP only'],
  ],
} as const;

export const NETWORK_NOTES = [
  'A guest never reaches its host, other guests, link-local addresses (cloud metadata) or anything by IPv6, whatever is allowed. Of the rest, --dns decides about port 53; then what --allow names goes out; then what --deny names does not; everything else is as --egress says.',
] as const;

const DESTINATION = /^(\d[\d.]*(?:\/\d+)?)(?::([\d-]+))?(?:\/(tcp|udp))?$/;

/** Collects `--allow 10.0.0.0/8:443/tcp --allow …`. What the numbers may be the API says. */
export function destination(text: string, previous: Destination[] | false | undefined = []): Destination[] {
  const [, cidr, ports, protocol] = DESTINATION.exec(text) ?? [];
  if (cidr === undefined)
    throw new InvalidArgumentError('It must look like NETWORK[:PORTS][/PROTOCOL], such as 10.0.0.0/8:443/tcp.');
  const one: Destination = {
    cidr,
    ...(ports === undefined ? {} : { ports }),
    ...(protocol === undefined ? {} : { protocol: protocol as 'tcp' | 'udp' }),
  };
  return [...(previous === false ? [] : previous), one];
}

export function formatDestination({ cidr, ports, protocol }: Destination): string {
  return `${cidr}${ports === undefined ? '' : `:${ports}`}${protocol === undefined ? '' : `/${protocol}`}`;
}

export function addNetworkOptions(command: Command): Command {
  return command
    .option('--egress', 'everything goes out that nothing else speaks of')
    .option('--no-egress', 'nothing goes out but what is allowed')
    .option('--allow <destination>', 'goes out, whatever else is said; repeatable', destination)
    .option('--deny <destination>', 'does not go out unless it is allowed; repeatable', destination)
    .option('--dns', 'names can be asked for (port 53)')
    .option('--no-dns', 'names cannot be asked for')
    .option('--tx-mbps <n>', 'limit of what it sends, megabits per second', positiveInteger);
}

/** What takes back what was set before; a new sandbox has nothing to take back. */
export function addClearingOptions(command: Command): Command {
  return command
    .option('--no-allow', 'nothing is allowed by name any more')
    .option('--no-deny', 'nothing is denied by name any more')
    .option('--no-tx-mbps', 'no limit any more')
    .option('--dns-as-egress', 'port 53 is as everything else again');
}

/** The fields that were given, as the API takes them; undefined where none was. */
export function policyChanges(options: NetworkOptions): Partial<NetworkPolicy> | undefined {
  const { egress, allow, deny, dns, txMbps } = options;
  const changes: Partial<NetworkPolicy> = {
    ...(egress === undefined ? {} : { egress }),
    ...(allow === undefined ? {} : { allow: allow || [] }),
    ...(deny === undefined ? {} : { deny: deny || [] }),
    ...(dns === undefined ? {} : { dns: dns === 'auto' ? null : dns }),
    ...(txMbps === undefined ? {} : { tx_mbps: txMbps || null }),
  };
  return Object.keys(changes).length === 0 ? undefined : changes;
}
