import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { CliError } from '../cli-error.js';
import { Backoff } from './backoff.js';
import { endProcess, identityOf, type ProcessIdentity } from './process-identity.js';
import type { RotatingLog } from './rotating-log.js';
import { describeEnd, EX_CONFIG, Service, type ReadyFacts, type ServiceSpec } from './service.js';

export interface SupervisorEvents {
  /** A process ended by itself; it is started again after the pause. */
  restarting: (name: string, why: string, pauseMs: number) => void;
  restarted: (name: string) => void;
  /** Starting it again cannot help. */
  gaveUp: (name: string, error: CliError) => void;
}

interface Entry {
  spec: ServiceSpec;
  service: Service;
  log: RotatingLog;
}

/**
 * Keeps a list of processes running, in order, and stops them in reverse. What it
 * started is recorded by pid and start time, for whoever comes after a crash.
 */
export class Supervisor {
  readonly #entries = new Map<string, Entry>();
  readonly #stopping = new AbortController();
  readonly #watches: Promise<void>[] = [];

  constructor(
    private readonly recordFile: string,
    private readonly openLog: (name: string) => RotatingLog,
    private readonly events: SupervisorEvents,
  ) {}

  /** Starts a process and returns when it serves. From then on it is kept running. */
  async start(spec: ServiceSpec): Promise<ReadyFacts> {
    // A start-up that was interrupted may still be on its way here.
    this.#stopping.signal.throwIfAborted();
    const log = this.openLog(spec.name);
    const entry: Entry = { spec, log, service: this.#spawn(spec, log) };
    this.#entries.set(spec.name, entry);
    this.#record();
    const facts = await entry.service.ready();
    this.#watches.push(this.#watch(entry));
    return facts;
  }

  /** Last started, first stopped: nothing loses what it stands on. */
  async stop(stopped: (name: string, ms: number) => void): Promise<void> {
    this.#stopping.abort();
    for (const entry of [...this.#entries.values()].reverse()) {
      const started = performance.now();
      await entry.service.stop();
      stopped(entry.spec.name, performance.now() - started);
    }
    await Promise.all(this.#watches);
    for (const { log } of this.#entries.values()) log.close();
    rmSync(this.recordFile, { force: true });
  }

  async #watch(entry: Entry): Promise<void> {
    const { spec } = entry;
    const backoff = new Backoff();
    let started = performance.now();
    while (!this.#stopping.signal.aborted) {
      const end = await entry.service.exited;
      if (this.#stopping.signal.aborted) return;
      if (end.code === EX_CONFIG) {
        return this.events.gaveUp(
          spec.name,
          new CliError(`${spec.name} refuses its configuration\n${entry.service.tail}`),
        );
      }
      const pause = backoff.next(performance.now() - started);
      this.events.restarting(spec.name, describeEnd(end), pause);
      await delay(pause, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      if (this.#stopping.signal.aborted) return;
      entry.service = this.#spawn(spec, entry.log);
      started = performance.now();
      this.#record();
      await entry.service.ready().then(
        () => this.events.restarted(spec.name),
        // Not ready is handled like an end: make sure of it, and the loop goes on.
        () => entry.service.stop(),
      );
    }
  }

  #spawn(spec: ServiceSpec, log: RotatingLog): Service {
    log.write(`--- ${new Date().toISOString()} starting ${spec.argv.join(' ')}`);
    return new Service(spec, log);
  }

  #record(): void {
    const running = [...this.#entries.values()].map(({ spec, service }) => ({
      name: spec.name,
      stopSignal: spec.stopSignal,
      stopMs: spec.stopMs,
      identity: service.pid === undefined ? undefined : identityOf(service.pid),
    }));
    writeFileSync(this.recordFile, JSON.stringify(running));
  }
}

interface RecordedProcess {
  name: string;
  stopSignal: NodeJS.Signals;
  stopMs: number;
  identity?: ProcessIdentity;
}

/** Ends what an earlier torpor started and could not stop, because it was killed. Returns their names. */
export async function endLeftovers(recordFile: string): Promise<string[]> {
  const ended: string[] = [];
  for (const { name, identity, stopMs, stopSignal } of readRecord(recordFile).reverse()) {
    if (identity === undefined || identityOf(identity.pid)?.startTime !== identity.startTime) continue;
    await endProcess(identity, stopMs, stopSignal);
    ended.push(name);
  }
  rmSync(recordFile, { force: true });
  return ended;
}

function readRecord(file: string): RecordedProcess[] {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as RecordedProcess[];
  } catch {
    return []; // never written, or torn by the crash; then the kernel has signalled them anyway
  }
}
