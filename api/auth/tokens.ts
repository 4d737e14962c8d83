import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** Keys and tokens are random, so one round of SHA-256 is enough to keep them. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

export function newHostToken(): string {
  return `tph_${randomBytes(20).toString('hex')}`;
}

/** Token of one sandbox's guest agent. */
export function newAccessToken(): string {
  return randomBytes(24).toString('base64url');
}

/** In the same time whatever is given. */
export function sameSecret(given: string, expected: string): boolean {
  return timingSafeEqual(Buffer.from(hashToken(given)), Buffer.from(hashToken(expected)));
}
