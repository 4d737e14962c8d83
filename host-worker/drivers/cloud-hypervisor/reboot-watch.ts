import type { Machine } from './machine.js';

/**
 * Ends VMs whose guests were reset. The VMM cannot be told not to boot such a guest again; but that one would know
 * nothing of its sandbox, and starting it again is the platform's decision.
 */
export class RebootWatch {
  readonly #stops = new Map<string, () => void>();

  constructor(
    private readonly machine: Machine,
    private readonly end: (id: string) => Promise<void>,
  ) {}

  /** A VM that is followed already is followed no better. */
  follow(id: string): void {
    if (this.#stops.has(id)) return;
    this.#stops.set(
      id,
      this.machine.events(id).watch(() => void this.#look(id)),
    );
    // It may have happened before there was a watch.
    void this.#look(id);
  }

  forget(id: string): void {
    this.#stops.get(id)?.();
    this.#stops.delete(id);
  }

  async #look(id: string): Promise<void> {
    try {
      if (!(await this.machine.events(id).story()).rebooted || !this.#stops.has(id)) return;
      this.forget(id);
      this.machine.warn({ sandboxId: id }, 'the guest was reset; its VM is ended');
      await this.end(id);
    } catch (err) {
      this.machine.warn({ sandboxId: id, err }, 'a VM whose guest was reset could not be ended');
    }
  }
}
