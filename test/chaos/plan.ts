import type { Boundary, StepProcess } from './boundary.js';
import type { CasePlan } from './case.js';
import { PROCESS_NAMES, type ProcessName } from './chaos-process.js';
import type { Dice } from './seeds.js';
import type { OperationName } from './stories.js';

/** What came out of one recorded run of each operation. */
export type Recorded = ReadonlyMap<OperationName, readonly Boundary[]>;

/** How many operations may be held in each worker at once. */
export type Room = Readonly<Record<StepProcess, number>>;

/**
 * A host worker carries out sixteen steps at a time, and the rest of them has to bring the others to their boundaries. A
 * control worker runs forty workflow tasks at a time, and a held local activity holds its task.
 */
export const ROOM: Room = { 'host-worker': 12, 'control-worker': 16 };
/** Emulated machines need the processors for themselves. */
export const LITTLE_ROOM: Room = { 'host-worker': 4, 'control-worker': 3 };

/** Every boundary of every operation, with every process. */
export function allCases(recorded: Recorded, processes: readonly ProcessName[] = PROCESS_NAMES): CasePlan[] {
  return processes.flatMap((process) =>
    [...recorded].flatMap(([operation, boundaries]) =>
      boundaries.map((boundary) => ({ operation, process, boundary })),
    ),
  );
}

/** Cases of one process whose operations can all be held at once. */
export function batches(plans: readonly CasePlan[], room: Room = ROOM): CasePlan[][] {
  const done: CasePlan[][] = [];
  for (const process of PROCESS_NAMES) {
    let batch: CasePlan[] = [];
    const held = { 'host-worker': 0, 'control-worker': 0 };
    for (const plan of plans.filter((one) => one.process === process)) {
      const holder = plan.boundary?.process ?? 'host-worker';
      const full = held[holder] >= room[holder];
      if (full) {
        done.push(batch);
        batch = [];
        held['host-worker'] = held['control-worker'] = 0;
      }
      batch.push(plan);
      held[holder] += 1;
    }
    if (batch.length > 0) done.push(batch);
  }
  return done;
}

/** Every operation with every process once, at boundaries of chance. */
export function crossSection(plans: readonly CasePlan[], dice: Dice): CasePlan[] {
  const chosen: CasePlan[] = [];
  for (const process of PROCESS_NAMES) {
    const own = dice.shuffled(plans.filter((plan) => plan.process === process));
    for (const operation of new Set(own.map((plan) => plan.operation)))
      chosen.push(...own.filter((plan) => plan.operation === operation).slice(0, PER_OPERATION));
  }
  return chosen;
}

const PER_OPERATION = 1;
