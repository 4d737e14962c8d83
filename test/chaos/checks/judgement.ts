import type { SandboxState } from '../../../workflows/contract/states.js';
import type { Answered } from '../caller.js';
import type { OperationRow } from '../records.js';
import type { Possessions } from './host-view.js';
import { duplicated, leaked, lost, stuck, type Violation } from './violation.js';

/** How a case may end, given how far it came. */
export interface Expectation {
  success: SandboxState | 'ready';
  /** Where a completely undone failure leads; null where there is no way back. */
  undone: SandboxState | 'failed' | null;
  /** Behind its commit point it must have succeeded. */
  committed: boolean;
}

/** Everything that is counted must be there once for a machine that runs, and not at all for one that does not. */
export function judgePossessions(state: string, has: Possessions): Violation[] {
  switch (state) {
    case 'running':
      return [
        ...exactlyOne('VMM', has.vmms),
        ...exactlyOne('namespace', has.namespaces),
        ...exactlyOne('tap', has.taps),
        ...exactlyOne('address', has.addresses),
        ...exactlyOne('overlay', has.overlays),
        // Only some disks are devices.
        ...(has.devices.length > 0 ? exactlyOne('mapped device', has.devices) : []),
        ...none('memory snapshot', has.snapshots),
      ];
    case 'paused':
      return [
        ...released(has),
        ...exactlyOne('overlay', has.overlays),
        ...exactlyOne('memory snapshot', has.snapshots),
      ];
    case 'error':
      // Its console stays for whoever wants to know why, until it is destroyed.
      return [...released(has), ...none('overlay', has.overlays), ...none('memory snapshot', has.snapshots)];
    case 'stopped':
    case 'failed':
      return [...released(has), ...none('file', has.files)];
    case 'ready':
      // What a published build keeps are its template's files.
      return [
        ...released(has),
        ...none(
          'file',
          has.files.filter((path) => !path.startsWith('templates/')),
        ),
      ];
    default:
      return [stuck(`it is ${state}, which nothing should be once all is quiet`)];
  }
}

/** Of the operation that the case asked for, and of the state that it led to. */
export function judgeEnd(
  state: string,
  operations: readonly Pick<OperationRow, 'id' | 'state' | 'failure'>[],
  expected: Expectation,
): Violation[] {
  const [operation, ...more] = operations;
  if (operation === undefined) return [lost('the request was answered and no operation of it is recorded')];
  if (more.length > 0) {
    return [
      duplicated(`one request became ${operations.length} operations: ${operations.map(({ id }) => id).join(', ')}`),
    ];
  }
  const succeeded = operation.state === 'succeeded' || operation.state === 'ready';
  const why = operation.failure === null ? '' : ` (${operation.failure.step}: ${operation.failure.message})`;
  if (operation.failure?.needsAttention !== undefined) {
    return [leaked(`what could not be undone: ${operation.failure.needsAttention.join('; ')}`)];
  }
  if (succeeded) {
    return state === expected.success
      ? []
      : [lost(`the operation succeeded and it is ${state} instead of ${expected.success}`)];
  }
  if (operation.state === 'running') return [stuck('the operation is still open')];
  if (expected.committed || expected.undone === null) {
    return [lost(`the operation was past its commit point and ${operation.state}${why}`)];
  }
  return state === expected.undone
    ? []
    : [lost(`the operation ${operation.state}${why} and it is ${state} instead of ${expected.undone}`)];
}

/** What the caller was told in the end, however often it had to ask, is what became of its request. */
export function judgeAnswer(
  answer: Pick<Answered, 'status' | 'code'> | undefined,
  { state }: Pick<OperationRow, 'state'>,
): Violation[] {
  if (answer === undefined) return [stuck('its caller never got an answer')];
  const { status, code = '' } = answer;
  // Accepted: nothing was said about the end.
  if (status === 202) return [];
  const succeeded = state === 'succeeded' || state === 'ready';
  return status < 400 === succeeded ? [] : [lost(`its caller was told ${`${status} ${code}`.trim()} and it ${state}`)];
}

function released(has: Possessions): Violation[] {
  return [
    ...none('VMM', has.vmms),
    ...none('namespace', has.namespaces),
    ...none('tap', has.taps),
    ...none('address', has.addresses),
    ...none('mapped device', has.devices),
  ];
}

function none(what: string, things: readonly (string | number)[]): Violation[] {
  return things.length === 0 ? [] : [leaked(`it still has a ${what}: ${things.join(', ')}`)];
}

function exactlyOne(what: string, things: readonly (string | number)[]): Violation[] {
  if (things.length === 1) return [];
  return things.length === 0
    ? [lost(`it has no ${what}`)]
    : [duplicated(`it has ${things.length} ${what}s: ${things.join(', ')}`)];
}
