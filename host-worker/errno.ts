/** Whether an error carries this code of the system (`ENOENT`) or of Node (`ERR_…`). */
export function hasErrno(err: unknown, code: string): boolean {
  return typeof err === 'object' && err !== null && 'code' in err && err.code === code;
}

/** The disk, or what may be used of it, is full. */
export function isDiskFull(err: unknown): boolean {
  return hasErrno(err, 'ENOSPC') || hasErrno(err, 'EDQUOT');
}

/** Nothing is there: the name itself is missing, or there is a file where a directory on the way to it would be. */
export function isAbsent(err: unknown): boolean {
  return hasErrno(err, 'ENOENT') || hasErrno(err, 'ENOTDIR');
}
