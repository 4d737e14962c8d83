/** Where keys and window sizes go. */
export interface TerminalSink {
  input: (bytes: Uint8Array) => Promise<void>;
  resize: () => Promise<void>;
}

/**
 * The local terminal in raw mode: every key, Ctrl-C included, goes to the other side. Keys
 * are sent one message after the other, because two requests under way could overtake
 * one another; what was typed meanwhile goes together in the next.
 */
export class TerminalInput {
  #waiting: Buffer[] = [];
  #sending = false;
  #closed = false;

  constructor(
    private readonly sink: TerminalSink,
    private readonly stdin: NodeJS.ReadStream = process.stdin,
    private readonly stdout: NodeJS.WriteStream = process.stdout,
  ) {
    stdin.setRawMode(true);
    stdin.on('data', this.#onData);
    stdin.resume();
    stdout.on('resize', this.#onResize);
  }

  /** Gives the terminal back as it was. */
  close(): void {
    this.#closed = true;
    this.stdin.off('data', this.#onData);
    this.stdout.off('resize', this.#onResize);
    this.stdin.setRawMode(false);
    this.stdin.pause();
  }

  readonly #onData = (bytes: Buffer): void => {
    this.#waiting.push(bytes);
    void this.#send();
  };

  readonly #onResize = (): void => {
    // The other side is gone or going: the stream of its output says so.
    this.sink.resize().catch(() => undefined);
  };

  async #send(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    try {
      while (this.#waiting.length > 0 && !this.#closed) await this.sink.input(Buffer.concat(this.#waiting.splice(0)));
    } catch {
      this.#waiting = []; // as above
    } finally {
      this.#sending = false;
    }
  }
}
