/** The two processes that carry out steps. */
export type StepProcess = 'control-worker' | 'host-worker';

/** `before`: its work has not begun. `after`: its work is done and recorded, and Temporal has not heard of it. */
export type Edge = 'before' | 'after';

/** One side of one step of one operation. */
export interface Boundary {
  process: StepProcess;
  step: string;
  /** The nth of that step in the operation, from 1. */
  occurrence: number;
  edge: Edge;
}

/** What a worker says when it is at a boundary of a sandbox or build. */
export interface Arrival {
  subject: string;
  process: StepProcess;
  step: string;
  edge: Edge;
}

export function nameOf({ step, occurrence, edge }: Boundary): string {
  return `${edge} ${step}${occurrence > 1 ? ` #${occurrence}` : ''}`;
}

/** Counts the arrivals of one operation, so that what it does twice can be told apart. */
export class BoundaryCounter {
  readonly #counts = new Map<string, number>();

  next({ process, step, edge }: Arrival): Boundary {
    const key = `${edge} ${step}`;
    const occurrence = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, occurrence);
    return { process, step, occurrence, edge };
  }
}

/**
 * Whether somebody who is to be held at `wanted` is held here. A later attempt of the same step is held too: a local
 * activity that is held longer than it may take is begun again, and must not slip past.
 */
export function holdsAt(wanted: Boundary, here: Boundary): boolean {
  return here.step === wanted.step && here.edge === wanted.edge && here.occurrence >= wanted.occurrence;
}
