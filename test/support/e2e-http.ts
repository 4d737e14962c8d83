import { request } from 'node:http';

export interface Head {
  method: string;
  /** As it is written, which fetch() would tidy up. */
  path: string;
  headers: Record<string, string>;
}

/** Sends a request without a body, whatever it announces, and reads the answer to that. */
export function sendHead(base: string, { method, path, headers }: Head): Promise<{ status: number; body: string }> {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const call = request({ hostname, port, method, path, headers, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.once('end', () => {
        resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
        call.destroy();
      });
    });
    call.once('error', reject);
    if (headers['content-length'] === undefined) call.end();
    else call.flushHeaders();
  });
}
