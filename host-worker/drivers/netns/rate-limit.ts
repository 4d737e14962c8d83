import { DomainError } from '../../../workflows/contract/errors.js';
import { INNER } from './rulesets.js';

const MOST_MEGABITS = 1_000_000;
/** What may be sent at once: 20 ms at the rate, but never less than the largest packet that a device hands over. */
const BURST = { seconds: 0.02, leastBytes: 65_536 };

/** Throws `invalid_request` for what is no rate. */
export function checkedRate(megabits: number | undefined): number | undefined {
  // The queueing discipline counts in bytes per second; a kilobit is what still makes sense to write.
  if (megabits === undefined || (megabits >= 0.001 && megabits <= MOST_MEGABITS)) return megabits;
  throw new DomainError(
    'invalid_request',
    `txMegabitsPerSecond: ${megabits} is no rate; give megabits per second from 0.001 to ${MOST_MEGABITS}, or leave it out for no limit`,
    { field: 'txMegabitsPerSecond' },
  );
}

/** For \`tc -batch -\`, whatever the limit was before. Taking away what is not there would fail, so something is put there first. */
export function rateBatch(megabits: number | undefined): string {
  const qdisc = (verb: string, what = '') => `qdisc ${verb} dev ${INNER.uplink} root${what}\n`;
  if (megabits === undefined) return qdisc('replace', ' pfifo') + qdisc('del');
  const burst = Math.max(BURST.leastBytes, Math.round((megabits * 1e6 * BURST.seconds) / 8));
  return qdisc('replace', ` tbf rate ${Math.round(megabits * 1e3)}kbit burst ${burst}b latency 50ms`);
}
