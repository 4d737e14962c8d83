/** The tiers of docs/ARCHITECTURE.md in the order of a full run: what fails fastest comes first. */
export interface Tier {
  name: string;
  /**
   * The agent's tests are Go's, the kill matrix is a program, the lab's run inside an emulated machine; every other tier
   * is a project of jest.config.mjs.
   */
  runner: 'jest' | 'go' | 'matrix' | 'lab';
  /** Whether it runs the product as built, on a machine that `torpor setup` has prepared. */
  needs: 'nothing' | 'setup';
  /** The agent's tests, mostly compiling, run beside the light tiers; the others have the machine to themselves. */
  light: boolean;
  /** Files at a time. Those that boot machines or compare what is left on this one take turns. */
  files: number;
  /** Ends a tier that hangs. Far above what the slowest machine needs; no test is judged by it. */
  deadlineMinutes: number;
  /** Runs only when it is named: it needs what takes long to make. */
  onDemand?: true;
  /** Of a kill matrix: which part of it. */
  matrix?: readonly string[];
}

export const TIERS: readonly Tier[] = [
  { name: 'guest', runner: 'go', needs: 'nothing', light: true, files: 1, deadlineMinutes: 15 },
  { name: 'unit', runner: 'jest', needs: 'nothing', light: true, files: 2, deadlineMinutes: 10 },
  { name: 'rules', runner: 'jest', needs: 'nothing', light: true, files: 2, deadlineMinutes: 5 },
  { name: 'compose', runner: 'jest', needs: 'nothing', light: true, files: 1, deadlineMinutes: 5 },
  { name: 'db', runner: 'jest', needs: 'nothing', light: true, files: 1, deadlineMinutes: 10 },
  { name: 'workflow', runner: 'jest', needs: 'nothing', light: false, files: 2, deadlineMinutes: 20 },
  { name: 'conformance', runner: 'jest', needs: 'setup', light: false, files: 1, deadlineMinutes: 20 },
  { name: 'e2e', runner: 'jest', needs: 'setup', light: false, files: 1, deadlineMinutes: 40 },
  { name: 'runbook', runner: 'jest', needs: 'setup', light: false, files: 1, deadlineMinutes: 20 },
  { name: 'chaos', runner: 'matrix', needs: 'setup', light: false, files: 1, deadlineMinutes: 20, matrix: ['--short'] },
  { name: 'lab', runner: 'lab', needs: 'setup', light: false, files: 1, deadlineMinutes: 60 },
  // Faults at every step of a driver, networks made ahead: more than a full run should wait for under emulation.
  { name: 'lab-faults', runner: 'lab', needs: 'setup', light: false, files: 1, deadlineMinutes: 120, onDemand: true },
  // Whole platforms on emulated machines: each test takes minutes.
  { name: 'lab-trials', runner: 'jest', needs: 'setup', light: false, files: 1, deadlineMinutes: 180, onDemand: true },
  // Kills processes around real VMs of a production host's drivers.
  {
    ...{ name: 'lab-chaos', runner: 'matrix', needs: 'setup', light: false, files: 1, deadlineMinutes: 120 },
    ...{ onDemand: true, matrix: ['--lab'] },
  },
  // Compiles a production Temporal server first.
  { name: 'cluster', runner: 'jest', needs: 'setup', light: false, files: 1, deadlineMinutes: 40, onDemand: true },
];

/** `npm test -- unit cli/platform`: tiers by name, anything else narrows the files. No name means all that are not on demand. */
export function chooseTiers(args: readonly string[]): { tiers: readonly Tier[]; files: string[] } {
  const named = TIERS.filter(({ name }) => args.includes(name));
  const files = args.filter((arg) => !TIERS.some(({ name }) => name === arg));
  if (files.length > 0 && named.length === 0) {
    throw new Error(`say which tier ${files.join(' ')} belongs to: ${TIERS.map(({ name }) => name).join(', ')}`);
  }
  return { tiers: named.length > 0 ? named : TIERS.filter(({ onDemand }) => !onDemand), files };
}
