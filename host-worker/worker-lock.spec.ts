import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { StartError } from './start-error.js';
import { WorkerLock } from './worker-lock.js';

let dir: string;
beforeEach(async () => (dir = await mkdtemp(join(tmpdir(), 'worker-lock-'))));
afterEach(() => rm(dir, { recursive: true }));

describe('the lock of a directory', () => {
  it('is held by one worker, which the error names', async () => {
    const lock = await WorkerLock.take(dir, 'TORPOR_DATA_DIR');
    await expect(WorkerLock.take(join(dir, '.'), 'TORPOR_DATA_DIR')).rejects.toThrow(`pid ${process.pid}`);
    await lock.release();
    await (await WorkerLock.take(dir, 'TORPOR_DATA_DIR')).release();
    expect(await readdir(dir)).toEqual([]);
  });

  it('is not kept by what a worker that died left behind', async () => {
    await writeFile(join(dir, 'worker.pid'), '1\n');
    await (await WorkerLock.take(dir, 'TORPOR_DATA_DIR')).release();
  });

  it('names the variable of a directory that cannot be one', async () => {
    await writeFile(join(dir, 'file'), '');
    for (const path of ['file', 'file/below']) {
      const taken = WorkerLock.take(join(dir, path), 'TORPOR_RUN_DIR');
      await expect(taken).rejects.toBeInstanceOf(StartError);
      await expect(taken).rejects.toThrow(/^TORPOR_RUN_DIR: .*in the place of a directory/);
    }
  });

  it('is one per directory', async () => {
    const one = await WorkerLock.take(join(dir, 'a'), 'TORPOR_DATA_DIR');
    const other = await WorkerLock.take(join(dir, 'b'), 'TORPOR_DATA_DIR');
    await one.release();
    await other.release();
  });
});
