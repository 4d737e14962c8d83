import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import { checkPorts, freePorts } from './ports.js';

const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});

async function occupy(port: number): Promise<void> {
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
}

describe('checkPorts', () => {
  it('accepts free ports and leaves them free', async () => {
    const [port = 0] = await freePorts(1);
    await checkPorts([{ what: 'the API', flag: '--port', port }]);
    await expect(occupy(port)).resolves.toBeUndefined();
  });

  it('names every taken port and the flag that changes it', async () => {
    const [api = 0, ui = 0, free = 0] = await freePorts(3);
    await occupy(api);
    await occupy(ui);
    const wishes = [
      { what: 'the API', flag: '--port', port: api },
      { what: 'Postgres', flag: '--postgres-port', port: free },
      { what: "Temporal's UI", flag: '--ui-port', port: ui },
    ];
    const error = await checkPorts(wishes).catch((reason: unknown) => reason as Error & { exitCode: number });
    expect(error).toMatchObject({ exitCode: 5, code: 'port_in_use' });
    expect(error?.message).toContain(
      `port ${api} on 127.0.0.1 is in use, and the API needs it: choose another with --port`,
    );
    expect(error?.message).toContain('--ui-port');
    expect(error?.message).not.toContain('--postgres-port');
  });

  it('refuses one port for two servers', async () => {
    const [port = 0] = await freePorts(1);
    const wishes = [
      { what: 'the API', flag: '--port', port },
      { what: 'Postgres', flag: '--postgres-port', port },
    ];
    await expect(checkPorts(wishes)).rejects.toMatchObject({ exitCode: 2 });
  });
});

describe('freePorts', () => {
  it('gives different ports', async () => {
    const ports = await freePorts(20);
    expect(new Set(ports).size).toBe(20);
  });
});
