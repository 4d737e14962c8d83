import type { JournalKey } from '../activities/host/ports.js';
import { DomainError } from '../workflows/contract/errors.js';

/** What a step may do, decided from what was recorded of its sandbox. */
export type Admission = { done: false; newEpoch: boolean } | { done: true; result: unknown };

/**
 * What one sandbox's journal says, without where it is kept. Epochs only grow: as
 * soon as a step of a higher one was seen, all lower ones are refused for good, so
 * the highest epoch and whether it is closed are all that fencing needs.
 */
export class StepLedger {
  epoch = 0;
  opId = '';
  closed = false;
  readonly #done = new Map<string, unknown>();

  /**
   * A recorded result is given even when the epoch is closed since: the answer that
   * closed it may have been lost on its way, and its retry must not look stale.
   */
  admit(key: JournalKey): Admission {
    if (key.epoch < this.epoch) throw stale(key, `epoch ${this.epoch} has begun since`);
    if (key.epoch > this.epoch) return { done: false, newEpoch: true };
    if (this.#done.has(key.step)) return { done: true, result: this.#done.get(key.step) };
    if (this.closed) throw stale(key, `epoch ${key.epoch} is closed`);
    return { done: false, newEpoch: false };
  }

  recordBegin(key: Pick<JournalKey, 'epoch' | 'opId'>): void {
    if (key.epoch <= this.epoch) return;
    this.epoch = key.epoch;
    this.opId = key.opId;
    this.closed = false;
    this.#done.clear();
  }

  recordDone(key: Pick<JournalKey, 'epoch' | 'step'>, result: unknown, closes: boolean): void {
    if (key.epoch !== this.epoch) return;
    this.#done.set(key.step, result);
    this.closed ||= closes;
  }
}

function stale(key: JournalKey, why: string): DomainError {
  return new DomainError(
    'stale_operation',
    `step ${key.step} of operation ${key.opId} (epoch ${key.epoch}) on ${key.sandboxId} was refused: ${why}`,
    { sandboxId: key.sandboxId, epoch: key.epoch, step: key.step },
  );
}
