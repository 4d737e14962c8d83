import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

/** Something else than the agent on the agent's port: it does with each connection what the test says. */
export class ForeignService {
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    readonly port: number,
  ) {}

  static async listen(treat: (socket: Socket) => void): Promise<ForeignService> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const service = new ForeignService(server, (server.address() as AddressInfo).port);
    server.on('connection', (socket) => {
      service.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => service.#sockets.delete(socket));
      treat(socket);
    });
    return service;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** Answers every request with these lines, and ends. */
export function answering(
  status: string,
  headers: string[] = [],
  body: string | Buffer = '',
): (socket: Socket) => void {
  return (socket) =>
    socket.once('data', () => {
      const head = [
        `HTTP/1.1 ${status}`,
        ...headers,
        `content-length: ${Buffer.byteLength(body)}`,
        'connection: close',
      ];
      socket.write(`${head.join('\r\n')}\r\n\r\n`);
      socket.end(body);
    });
}

/** Begins a good answer and then sends zeros for as long as somebody takes them. */
export function flooding(head: string, first: Buffer = Buffer.alloc(0)): (socket: Socket) => void {
  const zeros = Buffer.alloc(256 * 1024);
  return (socket) =>
    socket.once('data', () => {
      socket.write(head);
      socket.write(first);
      const more = (): void => {
        while (!socket.destroyed && socket.write(zeros));
      };
      socket.on('drain', more);
      more();
    });
}
