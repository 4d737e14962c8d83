/**
 * What a half-done call takes back, in reverse. For use inside one call of a driver;
 * across steps, the workflow compensates. Undo functions must not use the signal that
 * may have ended the call: it is aborted by the time they run.
 */
export class UndoStack {
  readonly #undos: { what: string; undo: () => Promise<unknown> }[] = [];

  push(what: string, undo: () => Promise<unknown>): void {
    this.#undos.push({ what, undo });
  }

  /** Runs everything even if parts of it fail. Returns the cause, joined with any failure of an undo. */
  async unwind(cause: unknown): Promise<unknown> {
    const failures: Error[] = [];
    for (const { what, undo } of this.#undos.splice(0).toReversed()) {
      try {
        await undo();
      } catch (err) {
        failures.push(
          new Error(`could not undo "${what}": ${err instanceof Error ? err.message : String(err)}`, { cause: err }),
        );
      }
    }
    if (failures.length === 0) return cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new AggregateError(
      [cause, ...failures],
      [reason, ...failures.map((failure) => failure.message)].join('; '),
      { cause },
    );
  }
}
