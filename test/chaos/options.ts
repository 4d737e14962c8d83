import { parseArgs } from 'node:util';
import type { LabDrivers } from './lab-host-worker.js';
import { PROCESS_NAMES, type ProcessName } from './chaos-process.js';
import { OPERATIONS, type OperationName } from './stories.js';

export interface MatrixOptions {
  operations: OperationName[];
  processes: ProcessName[];
  seed: number;
  /** A fixed cross-section: every operation and every process at least once. */
  short: boolean;
  qemu: boolean;
  cluster: boolean;
  /** In a lab, with the drivers of a production host unless others are named. */
  lab: LabDrivers | undefined;
  /** Only what would be tried. */
  list: boolean;
  /** At most so many cases with boundaries. */
  cases: number | undefined;
  keep: boolean;
}

export function readOptions(args: readonly string[]): MatrixOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      operations: { type: 'string' },
      processes: { type: 'string' },
      seed: { type: 'string' },
      cases: { type: 'string' },
      short: { type: 'boolean', default: false },
      qemu: { type: 'boolean', default: false },
      cluster: { type: 'boolean', default: false },
      lab: { type: 'boolean', default: false },
      hypervisor: { type: 'string', default: 'cloud-hypervisor' },
      disk: { type: 'string', default: 'dm-snapshot' },
      list: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
    },
  });
  return {
    operations: namesOf('--operations', values.operations, values.lab ? OF_LABS : OPERATIONS),
    processes: namesOf('--processes', values.processes, PROCESS_NAMES),
    // The cross-section of every day is always the same one.
    seed: numberOf('--seed', values.seed) ?? (values.short ? 1 : Date.now() % 2 ** 31),
    cases: numberOf('--cases', values.cases) ?? sampleOf(values),
    short: values.short,
    qemu: values.qemu,
    cluster: values.cluster,
    lab: values.lab ? { hypervisor: values.hypervisor, disk: values.disk } : undefined,
    list: values.list,
    keep: values.keep,
  };
}

/** Publishing a build reads a whole disk, which takes an emulated machine minutes; it has to be asked for. */
const OF_LABS = OPERATIONS.filter((operation) => operation !== 'build');

/** Not everything is tried everywhere: what is simulated or small elsewhere is sampled where it is not. */
function sampleOf({ qemu, cluster, lab }: Record<'qemu' | 'cluster' | 'lab', boolean>): number | undefined {
  if (qemu) return 30;
  if (lab) return 40;
  return cluster ? 40 : undefined;
}

export function namesOf<T extends string>(flag: string, given: string | undefined, known: readonly T[]): T[] {
  if (given === undefined) return [...known];
  return given.split(',').map((name) => {
    const found = known.find((one) => one === name);
    if (found === undefined) throw new Error(`${flag}: ${name} is none of ${known.join(', ')}`);
    return found;
  });
}

export function numberOf(flag: string, given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const value = Number(given);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${flag}: ${given} is no whole number`);
  return value;
}
