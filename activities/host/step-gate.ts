import { Mutex } from 'async-mutex';
import { DomainError } from '../../workflows/contract/errors.js';

/**
 * What a step needs for itself. Network and disk of one sandbox do not touch each
 * other, so their steps run side by side; every other step may use both and the VM.
 */
export type Lane = 'network' | 'disk' | 'all';

export interface Entry {
  sandboxId: string;
  epoch: number;
  step: string;
  lane: Lane;
  /** Activity names that may not begin any more in this epoch once this step was let in: it undoes them. */
  undoes: readonly string[];
}

interface Visit {
  epoch: number;
  abort: AbortController;
  ended: Promise<void>;
}

interface SandboxGate {
  /** In the order in which every step takes them. */
  readonly lanes: { readonly network: Mutex; readonly disk: Mutex };
  readonly visits: Set<Visit>;
  epoch: number;
  /** Names of steps that were undone in `epoch`. */
  undone: Set<string>;
}

/**
 * The order of steps on one sandbox inside this process. The journal fences what
 * crosses a crash; the gate fences what is still alive here: an attempt that Temporal
 * gave up and repeats, or one whose operation has been replaced.
 *
 * - A step of a higher epoch aborts all lower ones and waits until they have ended,
 *   lanes or not, since a lower one's half-done work is what it builds on.
 * - Steps of one epoch on one lane run one after the other, so that an undo waits for
 *   the step it undoes and a repeated attempt finds what the first one recorded.
 * - A step that arrives after its own undo is refused. Memory is enough for this: the
 *   server hands out no task of an activity that it has given up, so only one that
 *   this very process had taken can come late.
 */
export class StepGate {
  readonly #sandboxes = new Map<string, SandboxGate>();

  /** Runs `work` when it is its turn. Its signal also fires when a newer operation takes over. */
  async pass<T>(entry: Entry, signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const gate = this.#gate(entry.sandboxId);
    this.#raise(gate, entry);
    const older = [...gate.visits].filter((visit) => visit.epoch < entry.epoch);
    for (const visit of older) visit.abort.abort(replaced(entry));

    const abort = new AbortController();
    const both = signal ? AbortSignal.any([signal, abort.signal]) : abort.signal;
    let leave!: () => void;
    const visit: Visit = { epoch: entry.epoch, abort, ended: new Promise((resolve) => (leave = resolve)) };
    gate.visits.add(visit);
    try {
      await unlessAborted(Promise.all(older.map((other) => other.ended)), both);
      return await inLanes(gate, entry.lane, both, async () => {
        this.#refuseLate(gate, entry);
        for (const name of entry.undoes) gate.undone.add(name);
        return work(both);
      });
    } catch (err) {
      // A driver that was interrupted ends with an error of its own; the reason says who took over.
      if (abort.signal.aborted && !signal?.aborted) throw abort.signal.reason;
      throw err;
    } finally {
      gate.visits.delete(visit);
      leave();
    }
  }

  /** Runs `work` while no step of the sandbox does, outside any operation. */
  async exclusive<T>(sandboxId: string, work: () => Promise<T>): Promise<T> {
    return inLanes(this.#gate(sandboxId), 'all', undefined, work);
  }

  /** The sandbox's epoch is closed: the journal refuses whatever of it comes now. */
  forget(sandboxId: string): void {
    const gate = this.#sandboxes.get(sandboxId);
    if (gate?.visits.size === 0 && !gate.lanes.network.isLocked() && !gate.lanes.disk.isLocked()) {
      this.#sandboxes.delete(sandboxId);
    }
  }

  #gate(sandboxId: string): SandboxGate {
    const found = this.#sandboxes.get(sandboxId);
    if (found) return found;
    const made = {
      lanes: { network: new Mutex(), disk: new Mutex() },
      visits: new Set<Visit>(),
      epoch: 0,
      undone: new Set<string>(),
    };
    this.#sandboxes.set(sandboxId, made);
    return made;
  }

  #raise(gate: SandboxGate, entry: Entry): void {
    if (entry.epoch < gate.epoch) throw stale(entry, `epoch ${gate.epoch} has begun since`);
    if (entry.epoch === gate.epoch) return;
    gate.epoch = entry.epoch;
    gate.undone = new Set();
  }

  /** Asked again when the lanes are free: a newer epoch or the step's undo may have overtaken it. */
  #refuseLate(gate: SandboxGate, entry: Entry): void {
    if (entry.epoch < gate.epoch) throw stale(entry, `epoch ${gate.epoch} has begun since`);
    if (gate.undone.has(entry.step)) throw stale(entry, 'it has been undone already');
  }
}

async function inLanes<T>(
  gate: SandboxGate,
  lane: Lane,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const wanted = lane === 'all' ? [gate.lanes.network, gate.lanes.disk] : [gate.lanes[lane]];
  const releases: (() => void)[] = [];
  try {
    for (const mutex of wanted) releases.push(await acquire(mutex, signal));
    return await work();
  } finally {
    for (const release of releases) release();
  }
}

/** Waiting for a mutex cannot be called off; when the signal fires first, it is given back as soon as it comes. */
async function acquire(mutex: Mutex, signal: AbortSignal | undefined): Promise<() => void> {
  const acquired = mutex.acquire();
  try {
    return await unlessAborted(acquired, signal);
  } catch (err) {
    void acquired.then((release) => release());
    throw err;
  }
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  signal.throwIfAborted();
  let onAbort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function replaced(by: Entry): DomainError {
  return new DomainError(
    'stale_operation',
    `interrupted: step ${by.step} of epoch ${by.epoch} took over sandbox ${by.sandboxId}`,
  );
}

function stale(entry: Entry, why: string): DomainError {
  return new DomainError(
    'stale_operation',
    `step ${entry.step} of epoch ${entry.epoch} on ${entry.sandboxId} was refused: ${why}`,
    { sandboxId: entry.sandboxId, epoch: entry.epoch, step: entry.step },
  );
}
