import { createServer } from 'node:net';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';

/** A TCP port of this machine that one of our servers wants, and the flag that changes it. */
export interface PortWish {
  what: string;
  flag: string;
  port: number;
}

/** Rejects when any port is taken, naming every one of them and its flag. */
export async function checkPorts(wishes: readonly PortWish[], host = '127.0.0.1'): Promise<void> {
  const twice = wishes.find((wish, index) => wishes.findIndex((other) => other.port === wish.port) < index);
  if (twice !== undefined) {
    throw new CliError(`port ${twice.port} is given to two servers, one of them ${twice.what} (${twice.flag})`, {
      exitCode: EXIT.usage,
    });
  }
  const taken: PortWish[] = [];
  for (const wish of wishes) if ((await listenOnce(host, wish.port)) === undefined) taken.push(wish);
  if (taken.length === 0) return;
  const lines = taken.map(
    ({ what, flag, port }) => `port ${port} on ${host} is in use, and ${what} needs it: choose another with ${flag}`,
  );
  throw new CliError(lines.join('\n'), {
    suggestion: `see who has it with \`ss -ltnp sport = :${taken[0]?.port}\`, or let --ephemeral-ports choose free ones`,
    exitCode: EXIT.conflict,
    code: 'port_in_use',
  });
}

/** Ports that nobody had a moment ago, all different. */
export async function freePorts(count: number, host = '127.0.0.1'): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  try {
    const ports: number[] = [];
    for (const server of servers) {
      await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, host, resolve));
      const address = server.address();
      if (address === null || typeof address === 'string') throw new CliError('the kernel gave no port');
      ports.push(address.port);
    }
    return ports;
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

async function listenOnce(host: string, port: number): Promise<number | undefined> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') return resolve(undefined);
      reject(
        new CliError(`cannot listen on ${host}:${port}: ${error.message}`, {
          exitCode: EXIT.usage,
          cause: error,
        }),
      );
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(port)));
  });
}
