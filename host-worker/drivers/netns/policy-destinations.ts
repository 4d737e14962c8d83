import { DomainError } from '../../../workflows/contract/errors.js';
import type { Destination, NetworkPolicy } from '../../../workflows/contract/network-policy.js';
import { type AddressRange, merged, networkOf, rangeText, toNumber } from './address-range.js';

/** A list of destinations as elements of two nftables sets: by address alone, and by address, protocol and port. */
export interface DestinationElements {
  addresses: string[];
  ports: string[];
}

interface PortRange {
  first: number;
  last: number;
}

interface PortedDestination {
  protocol: 'tcp' | 'udp';
  addresses: AddressRange;
  ports: PortRange;
}

/** Of each list. More would make every change of a policy a matter of seconds. */
const MOST_DESTINATIONS = 128;
const PROTOCOLS = ['tcp', 'udp'] as const;
const ALL_PORTS: PortRange = { first: 0, last: 65_535 };

/** Throws `invalid_request`, naming the field, its value and what would be right. */
export function destinationElements(field: 'allow' | 'deny', policy: NetworkPolicy): DestinationElements {
  const given = policy[field] ?? [];
  if (given.length > MOST_DESTINATIONS)
    throw invalid(field, `has ${given.length} destinations`, `give at most ${MOST_DESTINATIONS}`);
  const plain: AddressRange[] = [];
  const ported: PortedDestination[] = [];
  for (const [index, destination] of given.entries()) {
    const addresses = addressesOf(destination, `${field}[${index}]`);
    const ports = portsOf(destination, `${field}[${index}]`);
    const protocols = protocolsOf(destination, `${field}[${index}]`);
    if (ports === undefined && destination.protocol === undefined) plain.push(addresses);
    else for (const protocol of protocols) ported.push({ protocol, addresses, ports: ports ?? ALL_PORTS });
  }
  const ports = PROTOCOLS.flatMap((protocol) =>
    disjoint(ported.filter((each) => each.protocol === protocol)).map(
      (each) => `${rangeText(each.addresses)} . ${protocol} . ${portText(each.ports)}`,
    ),
  );
  return { addresses: merged(plain).map(rangeText), ports };
}

function addressesOf({ cidr }: Destination, field: string): AddressRange {
  const [address = '', bits = '32', ...rest] = String(cidr).split('/');
  const number = toNumber(address);
  const length = /^\d{1,2}$/.test(bits) ? Number(bits) : Number.NaN;
  if (Number.isInteger(number) && length <= 32 && rest.length === 0) return networkOf(number, length);
  const why = String(cidr).includes(':') ? 'is IPv6, which guests do not have' : 'is no IPv4 network';
  throw invalid(`${field}.cidr`, `${JSON.stringify(cidr)} ${why}`, 'give one such as 10.0.0.0/8 or 192.0.2.7');
}

function portsOf({ ports }: Destination, field: string): PortRange | undefined {
  if (ports === undefined) return undefined;
  const [, from, to = from] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(ports) ?? [];
  const [first, last] = [Number(from), Number(to)];
  const example = 'give a port such as 443 or a range such as 8000-8100';
  if (!(first >= 0 && first <= 65_535 && last <= 65_535))
    throw invalid(`${field}.ports`, `${JSON.stringify(ports)} is no port from 0 to 65535`, example);
  if (first > last) throw invalid(`${field}.ports`, `"${ports}" begins behind its end`, `write ${last}-${first}`);
  return { first, last };
}

function protocolsOf({ protocol }: Destination, field: string): readonly ('tcp' | 'udp')[] {
  if (protocol === undefined) return PROTOCOLS;
  if (PROTOCOLS.includes(protocol)) return [protocol];
  throw invalid(`${field}.protocol`, `${JSON.stringify(protocol)} is unknown`, 'give tcp or udp, or leave it out');
}

function invalid(field: string, what: string, right: string): DomainError {
  return new DomainError('invalid_request', `${field}: ${what}; ${right}`, { field });
}

/**
 * The same addresses and ports in pieces of which no two overlap: the kernel refuses those that do. Between two ports at
 * which any destination begins or ends all have the same addresses, which are merged; neighbours with the same are joined.
 */
function disjoint(destinations: readonly PortedDestination[]): Omit<PortedDestination, 'protocol'>[] {
  const cuts = [...new Set(destinations.flatMap(({ ports }) => [ports.first, ports.last + 1]))].toSorted(
    (a, b) => a - b,
  );
  const slices: { ports: PortRange; addresses: AddressRange[] }[] = [];
  for (const [index, first] of cuts.entries()) {
    const last = (cuts[index + 1] ?? 0) - 1;
    const here = destinations.filter(({ ports }) => ports.first <= first && last <= ports.last);
    const addresses = last < first ? [] : merged(here.map((each) => each.addresses));
    const previous = slices.at(-1);
    const isSame = JSON.stringify(previous?.addresses) === JSON.stringify(addresses);
    if (previous !== undefined && isSame && previous.ports.last + 1 === first) previous.ports.last = last;
    else if (addresses.length > 0) slices.push({ ports: { first, last }, addresses });
  }
  return slices.flatMap(({ ports, addresses }) => addresses.map((each) => ({ ports, addresses: each })));
}

function portText({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}
