import { readMachine, type MachineOptions, type MachineSnapshot } from './machine-facts.js';

export type { MachineOptions, MachineSnapshot } from './machine-facts.js';

/** One thing that is there and should not be, or was there and is no more. */
export interface Finding {
  kind: string;
  what: string;
}

export interface MachineDifference {
  /** Leaks. */
  left: Finding[];
  /** What was there before the test and that only somebody else had the right to remove. */
  gone: Finding[];
  /** Both for people; empty when there is nothing to say. */
  report: string;
}

/** Their disappearance is what ending and cleaning up mean. */
const MAY_END: ReadonlySet<string> = new Set(['process', 'socket', 'file']);

export function snapshotMachine(options: MachineOptions): Promise<MachineSnapshot> {
  return readMachine(options);
}

export function diffMachine(before: MachineSnapshot, after: MachineSnapshot): MachineDifference {
  const left = notIn(before, after);
  const gone = notIn(after, before).filter(({ kind }) => !MAY_END.has(kind));
  const lines = [
    ...left.map(({ kind, what }) => `left behind: ${kind} ${what}`),
    ...gone.map(({ kind, what }) => `removed, though not ours: ${kind} ${what}`),
  ];
  return { left, gone, report: lines.join('\n') };
}

function notIn(reference: MachineSnapshot, other: MachineSnapshot): Finding[] {
  return [...other].flatMap(([kind, things]) =>
    [...things].filter(([key]) => !reference.get(kind)?.has(key)).map(([, what]) => ({ kind, what })),
  );
}

/** How long the kernel may take to finish what it was told. */
const SETTLE_MS = 5_000;
const LOOK_AGAIN_MS = 100;

/**
 * What differs from `before` once the machine has settled. The kernel takes a deleted namespace's links apart after
 * `ip netns del` has returned and tells nobody when it is done, so a difference has to outlast a few looks.
 */
export async function settledDifference(
  before: MachineSnapshot,
  options: MachineOptions,
  settleMs = SETTLE_MS,
): Promise<MachineDifference> {
  const deadline = performance.now() + settleMs;
  for (;;) {
    const difference = diffMachine(before, await snapshotMachine(options));
    if (difference.report === '' || performance.now() > deadline) return difference;
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}
