/** Whether an error carries this code of the system (`ENOENT`) or of Node (`ERR_…`). */
export function hasErrno(err: unknown, code: string): boolean {
  return typeof err === 'object' && err !== null && 'code' in err && err.code === code;
}
