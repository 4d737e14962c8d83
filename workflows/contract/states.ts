/** What a sandbox can be. The row that holds it is a projection, written by one activity. */
export const SANDBOX_STATES = [
  'starting',
  'running',
  'pausing',
  'paused',
  'resuming',
  'missing',
  'stopping',
  'stopped',
  'error',
] as const;

export type SandboxState = (typeof SANDBOX_STATES)[number];

/**
 * The only legal moves. `stopped` is final. A sandbox of which nobody can say what
 * became of it is `missing`: its host is lost, or a recovery is finding out. Anything
 * that still exists may fail (`error`), may be recovered (`missing`) and may be
 * destroyed (`stopping`).
 */
export const TRANSITIONS: Readonly<Record<SandboxState, readonly SandboxState[]>> = {
  starting: ['running', 'missing', 'stopping', 'error'],
  running: ['pausing', 'missing', 'stopping', 'error'],
  pausing: ['paused', 'running', 'missing', 'stopping', 'error'],
  paused: ['resuming', 'missing', 'stopping', 'error'],
  resuming: ['running', 'paused', 'missing', 'stopping', 'error'],
  missing: ['running', 'paused', 'stopping', 'error'],
  stopping: ['stopped', 'error'],
  stopped: [],
  error: ['missing', 'stopping'],
};

export function canMove(from: SandboxState, to: SandboxState): boolean {
  return TRANSITIONS[from].includes(to);
}

/** What an operation (one workflow run) can be. `undoing` is `running` with a failure set. */
export const OPERATION_STATES = ['running', 'succeeded', 'failed', 'cancelled'] as const;
export type OperationState = (typeof OPERATION_STATES)[number];

export const BUILD_STATES = ['running', 'ready', 'failed', 'cancelled'] as const;
export type BuildState = (typeof BUILD_STATES)[number];

export const OPERATION_KINDS = ['create', 'pause', 'resume', 'recover', 'network', 'destroy'] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];

interface Moves {
  from: readonly SandboxState[];
  during: SandboxState;
  success: SandboxState;
  undone: SandboxState;
}

/** Owns the sandbox like any other, and leaves it in the state that it is in. */
interface Stays {
  from: readonly SandboxState[];
  during: null;
  success: null;
  undone: null;
}

/**
 * Where each operation takes a sandbox: from which states it may start, what the
 * sandbox is meanwhile, where success leads, and where a completely undone failure leads.
 */
export const OPERATIONS: Readonly<Record<Exclude<OperationKind, 'network'>, Moves> & { network: Stays }> = {
  create: { from: [], during: 'starting', success: 'running', undone: 'error' },
  pause: { from: ['running'], during: 'pausing', success: 'paused', undone: 'running' },
  resume: { from: ['paused'], during: 'resuming', success: 'running', undone: 'paused' },
  // Of a paused sandbox only when its caller gives up the saved memory, see `RecoverSandboxInput`.
  recover: {
    from: ['starting', 'running', 'pausing', 'paused', 'resuming', 'missing', 'error'],
    during: 'missing',
    success: 'running',
    undone: 'error',
  },
  network: { from: ['running', 'paused'], during: null, success: null, undone: null },
  destroy: {
    from: ['starting', 'running', 'pausing', 'paused', 'resuming', 'missing', 'stopping', 'error'],
    during: 'stopping',
    success: 'stopped',
    undone: 'error',
  },
};

/** Whether an operation may take a sandbox that is in this state. */
export function mayBegin(kind: OperationKind, state: SandboxState): boolean {
  const { from, during } = OPERATIONS[kind];
  return from.includes(state) && (during === null || state === during || canMove(state, during));
}

/** What an operation does to a sandbox, for sentences. */
export function verbOf(kind: OperationKind): string {
  return kind === 'network' ? 'change the network policy of' : kind;
}
