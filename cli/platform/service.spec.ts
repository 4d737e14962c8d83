import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { RotatingLog } from './rotating-log.js';
import { pinoReady, Service, type ServiceSpec } from './service.js';

let directory: string;
let log: RotatingLog;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'service-spec-'));
  log = new RotatingLog(join(directory, 'x.log'));
});
afterEach(() => {
  log.close();
  rmSync(directory, { recursive: true, force: true });
});

function shell(script: string, overrides: Partial<ServiceSpec> = {}): Service {
  const spec: ServiceSpec = {
    name: 'x',
    argv: ['sh', '-c', script],
    env: { PATH: '/usr/bin:/bin' },
    cwd: directory,
    stopSignal: 'SIGTERM',
    stopMs: 5_000,
    readyMs: 10_000,
    readyLine: pinoReady('x'),
    ...overrides,
  };
  return new Service(spec, log);
}

const READY = `echo '{"level":30,"ready":"x","url":"http://h:1"}'`;

describe('Service', () => {
  it('is ready when it says so, with the facts it tells, and ends when asked', async () => {
    const service = shell(`echo begun; ${READY}; exec sleep 60`);
    await expect(service.ready()).resolves.toMatchObject({ url: 'http://h:1' });
    await expect(service.stop()).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(readFileSync(join(directory, 'x.log'), 'utf8')).toContain('begun\n');
  });

  it('kills what does not end in time', async () => {
    const service = shell(`trap '' TERM; ${READY}; while :; do sleep 60 & wait; done`, { stopMs: 100 });
    await service.ready();
    await expect(service.stop()).resolves.toEqual({ code: null, signal: 'SIGKILL' });
  });

  it('is not held up by a descendant that keeps its output open', async () => {
    const service = shell(`${READY}; (trap '' TERM; exec sleep 5) & exit 4`);
    await service.ready();
    const begun = performance.now();
    await expect(service.exited).resolves.toEqual({ code: 4, signal: null });
    expect(performance.now() - begun).toBeLessThan(4_500);
  });

  it('tells why it ended before it was ready, with its last lines', async () => {
    const failure = shell('echo the port is taken >&2; exit 3').ready();
    await expect(failure).rejects.toThrow(/x ended before it was ready: exit code 3\n {2}\| the port is taken/);
  });

  it('tells a wrong configuration from other ends', async () => {
    await expect(shell('exit 78').ready()).rejects.toMatchObject({ code: 'configuration' });
  });

  it('does not wait for ever', async () => {
    const service = shell('echo waiting; exec sleep 60', { readyMs: 200 });
    await expect(service.ready()).rejects.toMatchObject({ exitCode: 7 });
    await service.stop();
  });

  it('survives a program that is not there', async () => {
    await expect(shell('', { argv: ['/no/such/program'] }).ready()).rejects.toThrow('/no/such/program');
  });
});
