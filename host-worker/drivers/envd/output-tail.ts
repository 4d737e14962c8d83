/** The end of a program's output, where the reason of a failure is, in bounded memory. */
export class OutputTail {
  readonly #chunks: Uint8Array[] = [];
  #bytes = 0;
  #dropped = 0;

  constructor(private readonly maxBytes: number) {}

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes > this.maxBytes) {
      const first = this.#chunks.shift();
      if (first === undefined) return;
      const surplus = Math.min(first.length, this.#bytes - this.maxBytes);
      if (surplus < first.length) this.#chunks.unshift(first.subarray(surplus));
      this.#bytes -= surplus;
      this.#dropped += surplus;
    }
  }

  /** A first line says how much was left out. A character that was cut in two shows as �. */
  text(): string {
    const kept = Buffer.concat(this.#chunks).toString('utf8');
    return this.#dropped === 0 ? kept : `[${this.#dropped} bytes before this were left out]\n${kept}`;
  }
}
