/** What a script can learn from `$?`. Shown in every help page. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  notFound: 4,
  conflict: 5,
  unauthorized: 6,
  timeout: 7,
  unfinished: 8,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_MEANINGS: readonly (readonly [ExitCode, string])[] = [
  [EXIT.ok, 'done'],
  [EXIT.failed, 'it was tried and failed'],
  [EXIT.usage, 'wrong usage or wrong values'],
  [EXIT.unreachable, 'the API or a server it needs cannot be reached'],
  [EXIT.notFound, 'there is no such thing'],
  [EXIT.conflict, 'the state of the thing, another operation or another process is in the way'],
  [EXIT.unauthorized, 'the key is missing, wrong or not allowed to do this'],
  [EXIT.timeout, 'it took longer than the deadline'],
  [EXIT.unfinished, 'something is left: it waits, could not be mended, or is for you to decide'],
  [EXIT.interrupted, 'stopped by Ctrl-C'],
];
