import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { identityOf, isAlive, type ProcessIdentity } from './process-identity.js';
import { RotatingLog } from './rotating-log.js';
import { pinoReady, type ServiceSpec } from './service.js';
import { endLeftovers, Supervisor, type SupervisorEvents } from './supervisor.js';

let directory: string;
let record: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'supervisor-spec-'));
  record = join(directory, 'processes.json');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Collects what the supervisor tells, and lets a test wait for it. */
class Told implements SupervisorEvents {
  readonly lines: string[] = [];
  #waiting: (() => void)[] = [];
  #tell(line: string): void {
    this.lines.push(line);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
  restarting = (name: string, why: string, pauseMs: number): void =>
    this.#tell(`${name} restarting after ${pauseMs}: ${why}`);
  restarted = (name: string): void => this.#tell(`${name} restarted`);
  gaveUp = (name: string): void => this.#tell(`${name} gave up`);
  async until(line: string): Promise<void> {
    while (!this.lines.includes(line)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

function supervise(told: Told): Supervisor {
  return new Supervisor(record, (name) => new RotatingLog(join(directory, `${name}.log`)), told);
}

function script(name: string, text: string): ServiceSpec {
  return {
    name,
    argv: ['sh', '-c', text],
    env: { PATH: '/usr/bin:/bin' },
    cwd: directory,
    stopSignal: 'SIGTERM',
    stopMs: 5_000,
    readyMs: 10_000,
    readyLine: pinoReady(name),
  };
}
const serve = (name: string) => `echo '{"ready":"${name}"}'; exec sleep 60`;

interface Recorded {
  name: string;
  identity: ProcessIdentity;
}
const recorded = (): Recorded[] => JSON.parse(readFileSync(record, 'utf8')) as Recorded[];

describe('Supervisor', () => {
  it('records what it starts, and stops it in reverse', async () => {
    const supervisor = supervise(new Told());
    await supervisor.start(script('first', serve('first')));
    await supervisor.start(script('second', serve('second')));
    const processes = recorded();
    expect(processes.map(({ name }) => name)).toEqual(['first', 'second']);
    expect(processes.every(({ identity }) => isAlive(identity))).toBe(true);

    const stopped: string[] = [];
    await supervisor.stop((name) => stopped.push(name));
    expect(stopped).toEqual(['second', 'first']);
    expect(processes.some(({ identity }) => isAlive(identity))).toBe(false);
    expect(existsSync(record)).toBe(false);
  });

  it('starts again what ends by itself', async () => {
    const told = new Told();
    const supervisor = supervise(told);
    await supervisor.start(script('x', serve('x')));
    const [first] = recorded();
    process.kill(first?.identity.pid ?? 0, 'SIGKILL');
    await told.until('x restarted');
    expect(told.lines).toEqual(['x restarting after 1000: killed by SIGKILL', 'x restarted']);
    expect(recorded()[0]?.identity.pid).not.toBe(first?.identity.pid);
    await supervisor.stop(() => undefined);
  });

  it('gives up on a wrong configuration', async () => {
    const told = new Told();
    const supervisor = supervise(told);
    await supervisor.start(
      script('x', `echo '{"ready":"x"}'; read -r line < fifo; exit 78`.replace('read -r line < fifo', 'sleep 0.2')),
    );
    await told.until('x gave up');
    expect(told.lines).toEqual(['x gave up']);
    await supervisor.stop(() => undefined);
  });

  it('starts nothing after it was stopped', async () => {
    const supervisor = supervise(new Told());
    await supervisor.stop(() => undefined);
    await expect(supervisor.start(script('x', serve('x')))).rejects.toThrow();
  });
});

describe('endLeftovers', () => {
  it('ends what a killed torpor left, and nobody else', async () => {
    const supervisor = supervise(new Told());
    await supervisor.start(script('left', serve('left')));
    const [left] = recorded();
    const own = identityOf(process.pid);
    // A pid that went on to another process, as after a reboot, must not be touched.
    writeFileSync(
      record,
      JSON.stringify([
        { ...left, stopSignal: 'SIGTERM', stopMs: 5_000 },
        { name: 'other', stopSignal: 'SIGTERM', stopMs: 5_000, identity: { ...own, startTime: '1' } },
      ]),
    );
    await expect(endLeftovers(record)).resolves.toEqual(['left']);
    expect(left !== undefined && isAlive(left.identity)).toBe(false);
    expect(existsSync(record)).toBe(false);
    await supervisor.stop(() => undefined);
  });

  it('accepts that there is no record, or a torn one', async () => {
    await expect(endLeftovers(record)).resolves.toEqual([]);
    writeFileSync(record, '[{"name":');
    await expect(endLeftovers(record)).resolves.toEqual([]);
  });
});
