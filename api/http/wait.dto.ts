import { IsIn, IsOptional } from 'class-validator';

/** Longest that a request is held open; an operation that takes longer is answered as if nobody waited. */
const WAIT_LIMIT_MS = 10 * 60_000;

export class WaitQuery {
  /** `true`: answer when the operation has ended, with its result. */
  @IsOptional()
  @IsIn(['true', 'false'])
  wait?: 'true' | 'false';
}

export function waitMsOf(query: WaitQuery): number {
  return query.wait === 'true' ? WAIT_LIMIT_MS : 0;
}
