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

export const OPERATION_KINDS = ['create', 'pause', 'resume', 'recover', 'destroy'] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];

/**
 * Where each operation takes a sandbox: from which states it may start, what the
 * sandbox is meanwhile, where success leads, and where a completely undone failure leads.
 */
export const OPERATIONS: Readonly<
  Record<
    OperationKind,
    { from: readonly SandboxState[]; during: SandboxState; success: SandboxState; undone: SandboxState }
  >
> = {
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
  destroy: {
    from: ['starting', 'running', 'pausing', 'paused', 'resuming', 'missing', 'stopping', 'error'],
    during: 'stopping',
    success: 'stopped',
    undone: 'error',
  },
};
