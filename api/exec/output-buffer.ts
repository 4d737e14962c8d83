type Stream = 'stdout' | 'stderr';

/** The first bytes of both streams of a program, up to a limit that they share. */
export class OutputBuffer {
  private readonly chunks: Record<Stream, Uint8Array[]> = { stdout: [], stderr: [] };
  private free: number;
  truncated = false;

  constructor(maxBytes: number) {
    this.free = maxBytes;
  }

  append(stream: Stream, bytes: Uint8Array): void {
    const kept = bytes.subarray(0, this.free);
    if (kept.length < bytes.length) this.truncated = true;
    if (kept.length > 0) this.chunks[stream].push(kept);
    this.free -= kept.length;
  }

  /** As text where both streams are text, so that neither is changed on the way. */
  encode(): { stdout: string; stderr: string; encoding: 'utf-8' | 'base64' } {
    const stdout = Buffer.concat(this.chunks.stdout);
    const stderr = Buffer.concat(this.chunks.stderr);
    const texts = [stdout, stderr].map((bytes) => this.asText(bytes));
    const [out, err] = texts;
    if (out !== undefined && err !== undefined && out !== null && err !== null) {
      return { stdout: out, stderr: err, encoding: 'utf-8' };
    }
    return { stdout: stdout.toString('base64'), stderr: stderr.toString('base64'), encoding: 'base64' };
  }

  private asText(bytes: Buffer): string | null {
    try {
      // Streaming leaves out a last character that the limit cut in half, and nothing else.
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: this.truncated });
    } catch {
      return null;
    }
  }
}
