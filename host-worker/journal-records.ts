import { createHash } from 'node:crypto';

/** Raised when a record's meaning changes; files of other versions are set aside, not guessed at. */
const VERSION = 1;

const CHECKSUM_CHARS = 16;

export type JournalRecord =
  /** First line of every file: whose it is. */
  | { type: 'head'; version: number; sandboxId: string; hostId: string }
  | { type: 'begin'; epoch: number; opId: string; step: string; at: number }
  | { type: 'done'; epoch: number; step: string; result: unknown; closes: boolean; at: number };

export function headRecord(sandboxId: string, hostId: string): JournalRecord {
  return { type: 'head', version: VERSION, sandboxId, hostId };
}

/** One line: checksum, space, JSON. A line is whole only with its newline. */
export function formatRecord(record: JournalRecord): string {
  const json = JSON.stringify(record);
  return `${checksum(json)} ${json}\n`;
}

export interface ReadRecords {
  records: JournalRecord[];
  /** Length of the whole lines, in bytes; what follows was torn by a crash while it was written. */
  wholeBytes: number;
  torn: boolean;
  /** Why the file cannot be trusted as a whole; the records are those that are whole all the same. */
  corrupt?: string;
}

/**
 * Reads what a crash at any moment may have left. Only the last line can be torn by
 * one: appends are made one after the other. A bad line before it means that the
 * file was damaged otherwise.
 */
export function readRecords(content: Buffer, sandboxId: string): ReadRecords {
  const lines = content.toString('utf8').split('\n');
  const rest = lines.pop() ?? '';
  const parsed = lines.map(parseLine);
  let torn = rest !== '';
  if (!torn && parsed.length > 0 && parsed.at(-1) === undefined) {
    // A newline may reach the disk before what stands before it.
    torn = true;
    lines.pop();
    parsed.pop();
  }
  const records = parsed.filter((record) => record !== undefined);
  const wholeBytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
  const corrupt = whyCorrupt(records, parsed.indexOf(undefined), sandboxId);
  return { records, wholeBytes, torn, ...(corrupt === undefined ? {} : { corrupt }) };
}

function whyCorrupt(records: JournalRecord[], badLine: number, sandboxId: string): string | undefined {
  if (badLine >= 0) return `line ${badLine + 1} is damaged`;
  const head = records[0];
  if (head?.type !== 'head') return 'its first line is not the head of a journal';
  if (head.version !== VERSION) return `it is of version ${head.version}, this worker reads version ${VERSION}`;
  if (head.sandboxId !== sandboxId) return `it belongs to ${head.sandboxId}`;
  return undefined;
}

function parseLine(line: string): JournalRecord | undefined {
  const json = line.slice(CHECKSUM_CHARS + 1);
  if (line[CHECKSUM_CHARS] !== ' ' || checksum(json) !== line.slice(0, CHECKSUM_CHARS)) return undefined;
  // What carries a right checksum was written by `formatRecord`.
  return JSON.parse(json) as JournalRecord;
}

function checksum(json: string): string {
  return createHash('sha256').update(json).digest('hex').slice(0, CHECKSUM_CHARS);
}
