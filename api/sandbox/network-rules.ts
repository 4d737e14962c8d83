import { isIPv4 } from 'node:net';
import { registerDecorator } from 'class-validator';

/** Entries in each of `allow` and `deny`; more is a firewall's business, not one guest's. */
export const MAX_DESTINATIONS = 64;
/** A hundred gigabits. */
export const MAX_TX_MBPS = 100_000;
const LAST_PORT = 65_535;

/** What is wrong with an IPv4 network or address, as the end of a sentence; null when nothing is. */
export function cidrProblem(value: unknown): string | null {
  const expected = 'must be an IPv4 network such as 10.0.0.0/8, or one address';
  if (typeof value !== 'string') return expected;
  const [address = '', prefix, ...rest] = value.split('/');
  if (rest.length > 0) return expected;
  if (address.includes(':')) return `${expected}; IPv6 never goes out`;
  if (!isIPv4(address)) return expected;
  if (prefix === undefined) return null;
  if (!/^(\d|[12]\d|3[0-2])$/.test(prefix)) return `${expected}; the length of a prefix is 0 to 32`;
  const network = networkOf(address, Number(prefix));
  // Whoever wrote it may have meant the address, or the whole network.
  return network === address ? null : `must be a network: ${network}/${prefix}, or the address ${address}`;
}

function networkOf(address: string, prefix: number): string {
  const bits = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - prefix);
  const first = bits - (bits % size);
  return [24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join('.');
}

/** What is wrong with a port or a range of ports. */
export function portsProblem(value: unknown): string | null {
  const expected = `must be a port such as "443", or a range such as "8000-8100", of 1 to ${LAST_PORT}`;
  const match = typeof value === 'string' ? /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(value) : null;
  if (!match) return expected;
  const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
  if (to > LAST_PORT) return expected;
  return from > to ? `must be a range from the lower to the higher port: "${to}-${from}"` : null;
}

export function IsCidr(): PropertyDecorator {
  return ruleOf('isCidr', cidrProblem);
}

export function IsPorts(): PropertyDecorator {
  return ruleOf('isPorts', portsProblem);
}

function ruleOf(name: string, problemOf: (value: unknown) => string | null): PropertyDecorator {
  return (target, property) => {
    registerDecorator({
      name,
      target: target.constructor,
      propertyName: String(property),
      validator: {
        validate: (value: unknown) => problemOf(value) === null,
        defaultMessage: (args) => `${String(property)} ${problemOf(args?.value) ?? 'is wrong'}`,
      },
    });
  };
}
