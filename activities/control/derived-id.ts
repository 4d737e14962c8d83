import { createHash } from 'node:crypto';

/** 103 bits in base 36: as unique as needed, and fit for a host name. */
const LENGTH = 20;

export function toId(bytes: Buffer): string {
  const digits = BigInt(`0x${bytes.toString('hex')}`).toString(36);
  return digits.padStart(LENGTH, '0').slice(-LENGTH);
}

/** The same parts give the same id, whoever asks and how often. */
export function derivedId(...parts: readonly unknown[]): string {
  return toId(createHash('sha256').update(JSON.stringify(parts)).digest());
}
