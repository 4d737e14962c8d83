import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

const MAX_BYTES = 10 * 1024 * 1024;
const KEPT = 3;

/**
 * A log file that starts anew when it is full; the last few are kept as x.log.1, x.log.2, …
 * A full disk loses lines and never stops the process that logs.
 */
export class RotatingLog {
  #fd: number | undefined;
  #bytes = 0;

  constructor(
    readonly file: string,
    private readonly maxBytes = MAX_BYTES,
  ) {
    this.#open();
  }

  write(line: string): void {
    const bytes = Buffer.byteLength(line) + 1;
    if (this.#bytes > 0 && this.#bytes + bytes > this.maxBytes) this.#rotate();
    try {
      if (this.#fd === undefined) this.#open();
      if (this.#fd !== undefined) this.#bytes += writeSync(this.#fd, `${line}\n`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #open(): void {
    this.#fd = openSync(this.file, 'a', 0o640);
    this.#bytes = fstatSync(this.#fd).size;
  }

  #rotate(): void {
    this.close();
    for (let age = KEPT; age > 0; age--) {
      const older = `${this.file}.${age}`;
      const newer = age === 1 ? this.file : `${this.file}.${age - 1}`;
      try {
        renameSync(newer, older);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
    this.#open();
  }
}
