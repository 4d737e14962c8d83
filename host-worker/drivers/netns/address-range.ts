import { DomainError } from '../../../workflows/contract/errors.js';

/** IPv4 addresses from the first to the last, both included, as numbers. */
export interface AddressRange {
  first: number;
  last: number;
}

export function parseCidr(cidr: string): { first: number; size: number } {
  const match = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/.exec(cidr);
  const [address, bits] = [toNumber(match?.[1] ?? ''), Number(match?.[2])];
  if (!Number.isInteger(address) || !(bits >= 8 && bits <= 30)) {
    throw new DomainError(
      'invalid_request',
      `"${cidr}" is no IPv4 range; give one such as 10.96.0.0/16, from /8 to /30`,
    );
  }
  const { first, last } = networkOf(address, bits);
  return { first, size: last - first + 1 };
}

/** The network of `bits` that an address lies in. */
export function networkOf(address: number, bits: number): AddressRange {
  const size = 2 ** (32 - bits);
  const first = address - (address % size);
  return { first, last: first + size - 1 };
}

/** The same addresses in ascending ranges that neither touch nor overlap: the kernel refuses a set in which two do. */
export function merged(ranges: readonly AddressRange[]): AddressRange[] {
  const result: AddressRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first)) {
    const previous = result.at(-1);
    if (previous !== undefined && range.first <= previous.last + 1) previous.last = Math.max(previous.last, range.last);
    else result.push({ ...range });
  }
  return result;
}

/** As nft reads it. */
export function rangeText({ first, last }: AddressRange): string {
  return first === last ? toDotted(first) : `${toDotted(first)}-${toDotted(last)}`;
}

/** Not a number when it is no address. */
export function toNumber(dotted: string): number {
  const parts = dotted
    .split('.')
    .map((part) => (/^\d{1,3}$/.test(part) && Number(part) < 256 ? Number(part) : Number.NaN));
  return parts.length === 4 ? parts.reduce((sum, part) => sum * 256 + part, 0) : Number.NaN;
}

export function toDotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}
