/**
 * What a reconciliation can find, in one table: whether it mends it, and what it does. Its names are what operators
 * read in `torpor ops reconcile`, in the events and in the Temporal UI.
 */
export const FINDINGS = {
  run_lost: {
    repair:
      'a recovery (or the destroy again) takes the sandbox over; of a paused one, which nothing has touched, the operation is closed',
    means: 'the row is in the middle of an operation and no run of it is open: it was terminated, or Temporal lost it',
  },
  build_lost: {
    repair: 'the build is failed; what it left on the host is an orphan from then on',
    means: 'the row says that the build runs and no run of it is open: it was terminated, or Temporal lost it',
  },
  vm_lost: {
    repair: 'a recovery boots it from its disk, or says why not',
    means: 'the row says running, the VM is gone',
  },
  vm_frozen: { repair: 'a recovery lets it run again', means: 'the VM stands still and no operation wants that' },
  vm_unexpected: {
    repair: null,
    means:
      'the sandbox is paused, or ended with an error, and a VM of it is there: resume or destroy it to be rid of it',
  },
  unresolved: { repair: 'a recovery finds out', means: 'the sandbox is missing although its host answers' },
  found: { repair: 'the row says running again', means: 'the sandbox is missing and its VM runs, untouched' },
  host_silent: { repair: 'the row says missing', means: 'the host does not answer and its sandboxes count as running' },
  snapshot_lost: {
    repair: 'the row says error, with what can be done',
    means: 'the sandbox is paused and its saved memory is not on the host',
  },
  epoch_behind: {
    repair: "the row's epoch is raised",
    means: 'the host has seen newer operations than the database knows: the database is older than the host',
  },
  keeper_missing: { repair: 'the keeper is started', means: 'the sandbox has a timeout and nobody keeps it' },
  watch_missing: { repair: 'the watch is started', means: 'nobody watches the lease of the host' },
  orphan: {
    repair: 'after the grace period the host removes it',
    means: 'the host holds something of a sandbox or build that has ended or lives elsewhere',
  },
  unknown: {
    repair: null,
    means: 'the host holds something that this database never knew; it is kept until somebody decides',
  },
  host_unasked: { repair: null, means: 'the host could not be asked what it holds' },
} as const satisfies Record<string, { repair: string | null; means: string }>;

export type FindingKind = keyof typeof FINDINGS;

/** One thing that is not as it should be. */
export interface Finding {
  kind: FindingKind;
  hostId: string | null;
  /** Sandbox or build; null when it is about the host. */
  sandboxId: string | null;
  /** Of the sandbox's row when it was found; a repair of a sandbox that has moved on since does nothing. */
  epoch: number | null;
  /** What was seen, for people and programs: states, VM, generations. */
  before: Record<string, unknown>;
}

/** What became of a finding. */
export interface Reconciled extends Finding {
  outcome: 'repaired' | 'waiting' | 'kept' | 'failed' | 'would_repair';
  /** What is true now, or what will be done and when. */
  after: Record<string, unknown>;
}

export interface ReconcileReport {
  dryRun: boolean;
  /** How many hosts answered, of how many there are. */
  hosts: { asked: number; answered: number };
  sandboxes: number;
  findings: Reconciled[];
}
