import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Mutex } from 'async-mutex';
import type { Journal, JournalKey } from '../activities/host/ports.js';
import { DomainError } from '../workflows/contract/errors.js';
import { removeDurably, renameDurably, storageFailure, syncPath, writeDurably } from './durable-file.js';
import { hasErrno } from './errno.js';
import { formatRecord, headRecord, type JournalRecord, readRecords } from './journal-records.js';
import { checkedId, namesIn } from './sandbox-folder.js';
import { StepLedger } from './step-ledger.js';

export const JOURNAL_SUFFIX = '.jsonl';

/**
 * Space that is given up when the disk is full: destroying a sandbox frees space, but
 * has to be recorded first. Random, so that no file system stores it in less.
 */
const BALLAST = { file: 'ballast', bytes: 1024 * 1024 };

interface JournalLog {
  warn(fields: object, message: string): void;
}

interface SandboxJournal {
  readonly mutex: Mutex;
  ledger: StepLedger;
  /** The host's id when the sandbox came here; another one if this machine has been registered anew since. */
  hostId: string;
  /** Time of the last record, milliseconds since 1970. */
  touchedAt: number;
}

export interface JournalEntry {
  sandboxId: string;
  hostId: string;
  epoch: number;
  closed: boolean;
  touchedAt: number;
}

/**
 * The journal on disk: a file of checksummed lines per sandbox, appended and forced to
 * stable storage before a step acts. A new epoch replaces the file as a whole, so it
 * never holds more than one operation. After its destroy the file of a sandbox stays
 * as its tombstone, so that steps that come late are refused, until it is forgotten.
 */
export class FileJournal implements Journal {
  readonly #sandboxes = new Map<string, SandboxJournal>();

  private constructor(
    private readonly dir: string,
    private readonly hostId: string,
    private readonly log: JournalLog,
  ) {}

  static async open(dir: string, hostId: string, log: JournalLog): Promise<FileJournal> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await syncPath(dirname(dir));
    const journal = new FileJournal(dir, hostId, log);
    for (const name of await namesIn(dir)) {
      // Half-written replacements of a worker that died.
      if (name.startsWith('.')) await rm(join(dir, name), { force: true });
      else if (name.endsWith(JOURNAL_SUFFIX)) {
        await journal.#load(name.slice(0, -JOURNAL_SUFFIX.length)).catch((err: unknown) => journal.#giveUp(name, err));
      }
    }
    await journal.takeBallast();
    return journal;
  }

  /** Sets space aside again once there is some. */
  async takeBallast(): Promise<void> {
    const path = join(this.dir, BALLAST.file);
    try {
      await writeFile(path, randomBytes(BALLAST.bytes), { flag: 'wx', mode: 0o600, flush: true });
    } catch (err) {
      if (hasErrno(err, 'EEXIST')) return;
      this.log.warn({ err, path }, 'journal: no space could be set aside for a full disk');
      await rm(path, { force: true });
    }
  }

  async begin(key: JournalKey): Promise<{ done: false } | { done: true; result: unknown }> {
    const sandbox = this.#sandbox(key.sandboxId);
    return sandbox.mutex.runExclusive(async () => {
      const admission = sandbox.ledger.admit(key);
      if (admission.done) return admission;
      const { epoch, opId, step } = key;
      const record: JournalRecord = { type: 'begin', epoch, opId, step, at: Date.now() };
      await this.#withRoom(() =>
        admission.newEpoch ? this.#replace(key.sandboxId, [record]) : this.#append(key.sandboxId, record),
      );
      apply(sandbox, record);
      sandbox.hostId = this.hostId;
      return { done: false };
    });
  }

  async done(key: JournalKey, result: unknown, closes: boolean): Promise<void> {
    const sandbox = this.#sandbox(key.sandboxId);
    await sandbox.mutex.runExclusive(async () => {
      const { epoch, step } = key;
      const record: JournalRecord = { type: 'done', epoch, step, result: result ?? null, closes, at: Date.now() };
      await this.#withRoom(() => this.#append(key.sandboxId, record));
      apply(sandbox, record);
    });
  }

  epochOf(sandboxId: string): number | undefined {
    return this.find(sandboxId)?.epoch;
  }

  ids(): string[] {
    return this.entries().map(({ sandboxId }) => sandboxId);
  }

  isOwn(sandboxId: string): boolean {
    return this.find(sandboxId)?.hostId === this.hostId;
  }

  find(sandboxId: string): JournalEntry | undefined {
    const sandbox = this.#sandboxes.get(sandboxId);
    // Without an epoch nothing was ever recorded: somebody only asked, or was refused.
    if (sandbox === undefined || sandbox.ledger.epoch === 0) return undefined;
    const { hostId, touchedAt, ledger } = sandbox;
    return { sandboxId, hostId, epoch: ledger.epoch, closed: ledger.closed, touchedAt };
  }

  entries(): JournalEntry[] {
    return [...this.#sandboxes.keys()].map((id) => this.find(id)).filter((entry) => entry !== undefined);
  }

  /** Ends the fencing of a sandbox that can have nothing on its way any more. */
  async forget(sandboxId: string): Promise<void> {
    const sandbox = this.#sandboxes.get(sandboxId);
    await sandbox?.mutex.runExclusive(async () => {
      await removeDurably(this.#path(sandboxId));
      this.#sandboxes.delete(sandboxId);
    });
  }

  #sandbox(sandboxId: string): SandboxJournal {
    const found = this.#sandboxes.get(sandboxId);
    if (found) return found;
    const made = { mutex: new Mutex(), ledger: new StepLedger(), hostId: this.hostId, touchedAt: 0 };
    this.#sandboxes.set(sandboxId, made);
    return made;
  }

  async #withRoom(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (err) {
      if (!(err instanceof DomainError) || err.code !== 'disk_full') throw err;
      this.log.warn({ err }, 'journal: the disk is full; what was set aside is used now');
      await rm(join(this.dir, BALLAST.file), { force: true });
      await write();
    }
  }

  async #append(sandboxId: string, record: JournalRecord): Promise<void> {
    const path = this.#path(sandboxId);
    // Never creates it: a file without its head would be taken for a foreign one.
    const handle = await open(path, constants.O_WRONLY | constants.O_APPEND);
    try {
      const before = (await handle.stat()).size;
      try {
        await handle.writeFile(formatRecord(record));
        await handle.datasync();
      } catch (err) {
        // Whatever part of the line was written must not stand in the way of the next one.
        await handle.truncate(before);
        throw storageFailure(err, `writing ${path}`);
      }
    } finally {
      await handle.close();
    }
  }

  async #replace(sandboxId: string, records: JournalRecord[]): Promise<void> {
    const lines = [headRecord(sandboxId, this.hostId), ...records].map(formatRecord);
    await writeDurably(this.#path(sandboxId), lines.join(''));
  }

  async #load(sandboxId: string): Promise<void> {
    const path = this.#path(sandboxId);
    const { records, wholeBytes, torn, corrupt } = readRecords(await readFile(path), sandboxId);
    const sandbox = this.#sandbox(sandboxId);
    const head = records[0];
    if (head?.type === 'head') sandbox.hostId = head.hostId;
    if (corrupt !== undefined) return this.#setAside(sandboxId, sandbox, records, corrupt);
    for (const record of records) apply(sandbox, record);
    if (torn) {
      this.log.warn({ sandboxId, path }, 'journal: the last line was torn by a crash; its step counts as not recorded');
      await truncate(path, wholeBytes);
      await syncPath(path);
    }
  }

  /** In its place it would refuse every later step of its sandbox. */
  async #giveUp(name: string, err: unknown): Promise<void> {
    const file = join(this.dir, name);
    const aside = `${file}.unreadable-${Date.now()}`;
    this.log.warn(
      { err, file, aside },
      'journal: a file cannot be read and is set aside; its sandbox is not fenced by it',
    );
    try {
      await renameDurably(file, aside);
    } catch (cause) {
      this.log.warn({ err: cause, file }, 'journal: a file that cannot be read could not be set aside either');
    }
  }

  /** Keeps the damaged file for whoever looks, and of its whole lines what fences: the highest epoch. */
  async #setAside(sandboxId: string, sandbox: SandboxJournal, records: JournalRecord[], reason: string): Promise<void> {
    const path = this.#path(sandboxId);
    const aside = `${path}.corrupt-${Date.now()}`;
    this.log.warn({ sandboxId, reason, file: aside }, 'journal: a file cannot be trusted and was set aside');
    await renameDurably(path, aside);
    const fence = records
      .filter((record) => record.type === 'begin')
      .reduce<JournalRecord | undefined>(highest, undefined);
    if (fence === undefined || records[0]?.type !== 'head' || records[0].sandboxId !== sandboxId) {
      this.#sandboxes.delete(sandboxId);
      return;
    }
    apply(sandbox, fence);
    await this.#replace(sandboxId, [fence]);
  }

  #path(sandboxId: string): string {
    return join(this.dir, `${checkedId(sandboxId)}${JOURNAL_SUFFIX}`);
  }
}

function apply(sandbox: SandboxJournal, record: JournalRecord): void {
  if (record.type === 'begin') sandbox.ledger.recordBegin(record);
  if (record.type === 'done') sandbox.ledger.recordDone(record, record.result, record.closes);
  if (record.type !== 'head') sandbox.touchedAt = record.at;
}

function highest(one: JournalRecord | undefined, other: JournalRecord): JournalRecord {
  return one?.type === 'begin' && other.type === 'begin' && one.epoch >= other.epoch ? one : other;
}
