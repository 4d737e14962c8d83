import type { Journal, JournalKey } from '../../activities/host/ports.js';
import { StepLedger } from '../../host-worker/step-ledger.js';

/** The journal's rules without its files. */
export class FakeJournal implements Journal {
  readonly #ledgers = new Map<string, StepLedger>();

  async begin(key: JournalKey): Promise<{ done: false } | { done: true; result: unknown }> {
    const admission = this.#ledger(key).admit(key);
    if (admission.done) return admission;
    this.#ledger(key).recordBegin(key);
    return { done: false };
  }

  async done(key: JournalKey, result: unknown, closes: boolean): Promise<void> {
    this.#ledger(key).recordDone(key, structuredClone(result), closes);
  }

  find(id: string): { epoch: number; closed: boolean } | undefined {
    const ledger = this.#ledgers.get(id);
    return ledger && { epoch: ledger.epoch, closed: ledger.closed };
  }

  epochOf(id: string): number | undefined {
    return this.#ledgers.get(id)?.epoch || undefined;
  }

  /** Without those that were only refused: nothing was recorded of them. */
  ids(): string[] {
    return [...this.#ledgers].filter(([, { epoch }]) => epoch > 0).map(([id]) => id);
  }

  isOwn(id: string): boolean {
    return this.epochOf(id) !== undefined;
  }

  #ledger(key: JournalKey): StepLedger {
    const found = this.#ledgers.get(key.sandboxId) ?? new StepLedger();
    this.#ledgers.set(key.sandboxId, found);
    return found;
  }
}
