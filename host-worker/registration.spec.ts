import { createServer, type Server } from 'node:http';
import { mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ControlPlaneClient, type HostInfo } from './control-plane.client.js';
import { CredentialsFile } from './host-credentials.js';
import { FileJournal } from './journal.js';
import { HostReplaced, Registration } from './registration.js';
import { StartError } from './start-error.js';

const info: HostInfo = {
  ...{ name: 'h', arch: 'x86_64', version: '1', vcpus: 1, memory_mb: 1, disk_mb: 1, cpu: 'c', images: ['minimal'] },
  ...{ data_plane_url: 'http://x', data_plane_token: 'tpd', hypervisor: 'qemu', hypervisor_version: '1' },
  drivers: { hypervisor: 'qemu/tcg', disk: 'qcow2', network: 'netns' },
};
const quiet = { info: () => {}, warn: () => {}, error: () => {} };

let dir: string;
let api: Server;
let url: string;
/** Hosts that the API knows, by token. */
let hosts: Map<string, string>;
let asked: string[];
let open: Registration[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'registration-'));
  hosts = new Map();
  asked = [];
  open = [];
  api = createServer((req, res) => {
    asked.push(`${req.method} ${req.url}`);
    const answer = (status: number, body: object) =>
      res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    const refuse = () => answer(401, { error: { code: 'unauthorized', message: 'unknown token' } });
    req.resume().on('end', () => {
      if (req.url === '/v1/hosts/register') {
        if (req.headers['x-registration-token'] !== 'first') return refuse();
        hosts.set(`tph_${asked.length}`, `host${asked.length}`);
        return answer(201, { host_id: `host${asked.length}`, token: `tph_${asked.length}` });
      }
      const hostId = hosts.get(String(req.headers['x-host-token']));
      return hostId === undefined ? refuse() : answer(200, { host_id: hostId });
    });
  });
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
});

afterEach(async () => {
  for (const each of open) await each.leave();
  api.closeAllConnections();
  await new Promise((resolve) => api.close(resolve));
  await rm(dir, { recursive: true });
});

async function registration(
  registrationToken?: string,
  apiUrl = url,
  times: { heartbeatMs: number; retryMs?: number } = { heartbeatMs: 5 },
): Promise<Registration> {
  const file = new CredentialsFile(dir);
  const credentials = await file.load();
  const client = new ControlPlaneClient(apiUrl, () => credentials.registered?.token);
  const made = new Registration({
    client,
    file,
    credentials,
    registrationToken,
    info: async () => info,
    log: quiet,
    ...times,
  });
  open.push(made);
  return made;
}

/** The next request. */
function arrives(): Promise<void> {
  return new Promise((resolve) => api.once('request', (req) => req.once('end', () => resolve())));
}

describe('the registration of a host', () => {
  it('happens once and is kept, readable by its owner only', async () => {
    const hostId = await (await registration('first')).enter();
    expect(await (await registration()).enter()).toBe(hostId);
    expect(asked).toEqual(['POST /v1/hosts/register', 'POST /v1/hosts/self/heartbeat']);
    expect((await stat(join(dir, 'host.json'))).mode & 0o777).toBe(0o600);
  });

  it('needs its token, and a right one', async () => {
    await expect((await registration()).enter()).rejects.toThrow('TORPOR_REGISTRATION_TOKEN');
    await expect((await registration('wrong')).enter()).rejects.toMatchObject({ code: 'unauthorized' });
  });

  it('lets a known host start while the API is away', async () => {
    const hostId = await (await registration('first')).enter();
    expect(await (await registration(undefined, 'http://127.0.0.1:1')).enter()).toBe(hostId);
  });

  it('is renewed where the API lost it, and cannot be without a token', async () => {
    const first = await (await registration('first')).enter();
    hosts.clear();
    await expect((await registration()).enter()).rejects.toThrow('TORPOR_REGISTRATION_TOKEN');
    const again = await (await registration('first')).enter();
    expect(again).not.toBe(first);
    expect(JSON.parse(await readFile(join(dir, 'host.json'), 'utf8'))).toMatchObject({ registered: { hostId: again } });
  });

  it('is told to its worker when it changes under way', async () => {
    const kept = await registration('first');
    await kept.enter();
    const replaced = new Promise<HostReplaced>((resolve) => kept.keep(resolve));
    hosts.clear();
    expect(await replaced).toBeInstanceOf(HostReplaced);
  });

  it('tells the control plane at once that its host serves, whatever the heartbeat', async () => {
    const kept = await registration('first', url, { heartbeatMs: 3_600_000 });
    await kept.enter();
    const before = asked.length;
    kept.keep(() => {});
    await arrives();
    expect(asked.slice(before)).toEqual(['POST /v1/hosts/self/heartbeat']);
  });

  it('is told to a control plane that was away soon after it is back, not only a heartbeat later', async () => {
    await (await registration('first')).enter();
    const { port } = api.address() as AddressInfo;
    api.closeAllConnections();
    await new Promise((resolve) => api.close(resolve));
    const kept = await registration(undefined, url, { heartbeatMs: 3_600_000, retryMs: 5 });
    await kept.enter();
    kept.keep(() => {});
    const before = asked.length;
    await new Promise<void>((resolve) => api.listen(port, '127.0.0.1', resolve));
    await arrives();
    expect(asked.slice(before)).toEqual(['POST /v1/hosts/self/heartbeat']);
  });

  it('is tried again and again until there is a control plane', async () => {
    const { port } = api.address() as AddressInfo;
    await new Promise((resolve) => api.close(resolve));
    const made = await registration('first', url, { heartbeatMs: 3_600_000, retryMs: 5 });
    const entered = made.enter();
    await new Promise<void>((resolve) => api.listen(port, '127.0.0.1', resolve));
    expect(await entered).toBe('host1');
  });

  it('says what is wrong with a damaged file', async () => {
    await writeFile(join(dir, 'host.json'), '{"registered":');
    await expect(new CredentialsFile(dir).load()).rejects.toThrow(
      /host\.json cannot be read .* restore it from a backup.* registered as a new host.*move .*host\.json and .*journal/,
    );
  });

  it('refuses to become another host because the file is gone, once the machine has served', async () => {
    const file = new CredentialsFile(dir);
    const journal = await FileJournal.open(join(dir, 'journal'), 'host1', { warn: () => {} });
    expect((await file.load()).registered).toBeUndefined();
    await journal.begin({ sandboxId: 's1', epoch: 1, opId: 'create', step: 'setUpNetwork' });
    await expect(file.load()).rejects.toThrow(StartError);
    await expect(file.load()).rejects.toThrow(/host\.json is missing, and this machine has served as a host before/);
    // What its message tells to do.
    await rename(join(dir, 'journal'), join(dir, 'journal-before'));
    expect((await file.load()).registered).toBeUndefined();
  });
});

describe('the control plane client', () => {
  it('asks for verdicts in questions that a request can carry, and takes what is left out for no verdict', async () => {
    const sizes: number[] = [];
    const judge = createServer((req, res) => {
      let sent = '';
      req.setEncoding('utf8').on('data', (text: string) => (sent += text));
      req.on('end', () => {
        const { ids } = JSON.parse(sent) as { ids: string[] };
        sizes.push(ids.length);
        const answer = {
          live: ids.filter((id) => id.endsWith('1')),
          ended: ids.filter((id) => id.endsWith('2')),
          unknown: [],
        };
        res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
      });
    });
    await new Promise<void>((resolve) => judge.listen(0, '127.0.0.1', resolve));
    const client = new ControlPlaneClient(`http://127.0.0.1:${(judge.address() as AddressInfo).port}`, () => 't');
    const verdicts = await client.verdicts(Array.from({ length: 1_203 }, (_, index) => `s${index}`));
    expect(sizes).toEqual([500, 500, 203]);
    expect([verdicts.get('s1'), verdicts.get('s1202'), verdicts.get('s3')]).toEqual(['live', 'ended', undefined]);
    judge.closeAllConnections();
    await new Promise((resolve) => judge.close(resolve));
  });

  it('says which request found nobody', async () => {
    await new Promise((resolve) => api.close(resolve));
    const client = new ControlPlaneClient(url, () => 't');
    await expect(client.assigned()).rejects.toMatchObject({
      code: 'control_plane_unavailable',
      message: expect.stringMatching(/^GET .*\/v1\/hosts\/self\/sandboxes failed: .*ECONNREFUSED/),
    });
    await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
  });
});
