import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, chown, open, rm } from 'node:fs/promises';
import { type Server, type Socket, createServer } from 'node:net';
import { dirname } from 'node:path';
import { storageFailure, syncPath } from '../../durable-file.js';

/** Written back while more is coming, so that the final sync, with the guest standing still, is short. */
const SYNC_EVERY_BYTES = 16 * 1024 * 1024;

/**
 * Where a VMM sends the memory of its guest: a socket of ours, because it is denied
 * to start processes and to open files of its own. What arrives is hashed on its way
 * to the file.
 */
export class MemoryReceiver {
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    private readonly socketPath: string,
    private readonly file: string,
  ) {
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      // Whoever reads the socket gets its error too; without a listener it would end this process.
      socket.on('error', () => undefined);
    });
  }

  static async listen(socketPath: string, file: string, owner: { uid: number; gid: number }): Promise<MemoryReceiver> {
    await rm(socketPath, { force: true });
    const server = createServer({ pauseOnConnect: true });
    server.listen(socketPath);
    await once(server, 'listening');
    await chown(socketPath, owner.uid, owner.gid);
    return new MemoryReceiver(server, socketPath, file);
  }

  /** Resolves when the sender has closed and everything is on stable storage. */
  async receive(signal: AbortSignal): Promise<{ bytes: number; sha256: string }> {
    try {
      const [socket] = (await once(this.server, 'connection', { signal })) as [Socket];
      return await this.#receiveFrom(socket, signal);
    } catch (err) {
      signal.throwIfAborted();
      throw storageFailure(err, `writing ${this.file}`);
    }
  }

  async close(): Promise<void> {
    this.server.close();
    // Also one that connected after nobody waited any more.
    for (const socket of this.#sockets) socket.destroy();
    await rm(this.socketPath, { force: true });
  }

  async #receiveFrom(socket: Socket, signal: AbortSignal): Promise<{ bytes: number; sha256: string }> {
    const abort = (): void => void socket.destroy();
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await this.#write(socket);
    } finally {
      signal.removeEventListener('abort', abort);
      socket.destroy();
    }
  }

  async #write(socket: Socket): Promise<{ bytes: number; sha256: string }> {
    const handle = await open(this.file, 'w', 0o600);
    try {
      const hash = createHash('sha256');
      const writeBack = new WriteBack(handle);
      let bytes = 0;
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        const written = writeAll(handle, chunk);
        hash.update(chunk); // meanwhile
        await written;
        bytes += chunk.length;
        writeBack.progressed(bytes);
      }
      await writeBack.finish();
      await handle.sync();
      await syncPath(dirname(this.file));
      return { bytes, sha256: hash.digest('hex') };
    } finally {
      await handle.close();
    }
  }
}

async function writeAll(handle: FileHandle, chunk: Buffer): Promise<void> {
  for (let done = 0; done < chunk.length;) done += (await handle.write(chunk, done)).bytesWritten;
}

class WriteBack {
  #synced = 0;
  #running = false;
  readonly #syncs: Promise<void>[] = [];

  constructor(private readonly handle: FileHandle) {}

  progressed(bytes: number): void {
    if (this.#running || bytes - this.#synced < SYNC_EVERY_BYTES) return;
    this.#synced = bytes;
    this.#running = true;
    const sync = this.handle.datasync().finally(() => void (this.#running = false));
    sync.catch(() => undefined); // for now; `finish` reports it
    this.#syncs.push(sync);
  }

  /** The kernel tells a failed write-back once: what one of these was told, the final sync is not. */
  async finish(): Promise<void> {
    await Promise.all(this.#syncs);
  }
}
