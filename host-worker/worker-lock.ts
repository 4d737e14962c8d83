import { createHash } from 'node:crypto';
import { mkdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { hasErrno } from './errno.js';
import { StartError } from './start-error.js';
import { systemFailure } from './system-failure.js';

const PID_FILE = 'worker.pid';
/** Why a directory cannot be made, whenever one tries. */
const PERMANENT = ['EACCES', 'EEXIST', 'ENOTDIR', 'EROFS'];

/**
 * One worker per directory: two would take each other's VMs for their own. The lock is a socket name in the kernel's abstract
 * namespace: the kernel gives it to one process and takes it back when that one is gone,
 * however it ended, so that a lock can neither be stale nor be taken over by two. The
 * pid file only tells who holds it.
 */
export class WorkerLock {
  private constructor(
    private readonly holder: Server,
    private readonly pidFile: string,
  ) {}

  /** `variable` sets the directory, and is named where it is taken. */
  static async take(directory: string, variable: string): Promise<WorkerLock> {
    const pidFile = join(directory, PID_FILE);
    const name = createHash('sha256')
      .update(await makeDirectory(directory, variable))
      .digest('hex');
    const holder = createServer((socket) => socket.destroy());
    try {
      await new Promise<void>((resolve, reject) => {
        holder.once('error', reject);
        holder.listen(`\0torpor-host-worker-${name}`, resolve);
      });
    } catch (err) {
      if (!hasErrno(err, 'EADDRINUSE')) throw err;
      const pid = await readFile(pidFile, 'utf8').catch(() => 'unknown');
      throw new StartError(
        `another host worker (pid ${pid.trim()}) uses ${directory}; stop it first (kill ${pid.trim()}) or set ${variable} to another directory`,
        { cause: err },
      );
    }
    // The lock alone must not keep the process alive.
    holder.unref();
    await writeFile(pidFile, `${process.pid}\n`, { mode: 0o644 });
    return new WorkerLock(holder, pidFile);
  }

  async release(): Promise<void> {
    await rm(this.pidFile, { force: true });
    await new Promise((resolve) => this.holder.close(resolve));
  }
}

/** Its real path. What keeps it from being made is told with the variable that names another one. */
async function makeDirectory(directory: string, variable: string): Promise<string> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o711 });
    return await realpath(directory);
  } catch (err) {
    const refused = PERMANENT.some((code) => hasErrno(err, code)) ? systemFailure(err) : undefined;
    if (refused === undefined) throw err;
    throw new StartError(`${variable}: ${refused.message}`, { cause: err });
  }
}
