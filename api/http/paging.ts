import { DomainError } from '../../workflows/contract/errors.js';
import { ID_PATTERN } from '../../workflows/contract/ids.js';

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/** Where a page ended, in an order that is unique: a time and the id that breaks its ties. */
export interface Position {
  at: Date;
  id: string;
}

export function encodePosition({ at, id }: Position): string {
  return Buffer.from(JSON.stringify([at.getTime(), id])).toString('base64url');
}

export function decodePosition(cursor: string): Position {
  try {
    const [at, id] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as [unknown, unknown];
    const time = new Date(typeof at === 'number' && at >= 0 ? at : NaN);
    if (!Number.isNaN(time.getTime()) && typeof id === 'string' && ID_PATTERN.test(id)) return { at: time, id };
  } catch {
    // Told below: whatever is wrong with it, it is not one of ours.
  }
  throw wrongCursor(cursor);
}

/** Where a page ended, in the order of rows that are numbered. */
export function rowCursor(cursor: string): string {
  if (/^\d{1,18}$/.test(cursor)) return cursor;
  throw wrongCursor(cursor);
}

function wrongCursor(cursor: string): DomainError {
  return new DomainError(
    'invalid_request',
    `cursor must be the next_cursor of a page before, not ${JSON.stringify(cursor)}`,
    { fields: ['cursor'] },
  );
}

/** Of `limit + 1` rows that were asked for: the extra one says that there is a next page. */
export function toPage<Row, Item>(
  rows: readonly Row[],
  limit: number,
  toItem: (row: Row) => Item,
  cursorAfter: (row: Row) => string,
): Page<Item> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.map(toItem),
    next_cursor: rows.length > limit && last !== undefined ? cursorAfter(last) : null,
  };
}
