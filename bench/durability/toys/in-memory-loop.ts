import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { GuestRun } from '../../../activities/host/ports.js';
import type { HostCalls } from './host-calls.js';
import { newId, STATUS, ToyError, type Toy, type ToySandbox } from './toy.js';

const REAP_MS = 2_000;

interface Entry extends ToySandbox {
  token: string;
  generation: number;
  timeoutSeconds: number;
  activeAt: number;
  /** The request that is under way. */
  work?: Promise<void>;
}

/**
 * The orchestrator that most begin with: one process per host, its sandboxes in a map, each request an async function
 * that makes one call after the other and takes back what it did in its catch block; a reaper looks at idle ones
 * every two seconds and pauses one after the other. The shape is described of a host agent in Go with an in-memory map
 * per host, whose restart forgets what runs, and whose failed auto-pause destroys the sandbox.
 */
export class InMemoryLoop implements Toy {
  readonly #sandboxes = new Map<string, Entry>();

  constructor(
    private readonly calls: HostCalls,
    private readonly log: Logger,
  ) {}

  /** Never returns. */
  async reap(): Promise<never> {
    for (;;) {
      await delay(REAP_MS);
      for (const entry of [...this.#sandboxes.values()]) if (isIdle(entry)) await this.#pauseIdle(entry);
    }
  }

  async create(name: string, timeoutSeconds: number): Promise<ToySandbox> {
    const existing = [...this.#sandboxes.values()].find((entry) => entry.name === name);
    if (existing !== undefined) {
      await existing.work;
      return view(existing);
    }
    const entry: Entry = {
      ...{ id: newId(name), name, state: 'creating', token: randomBytes(16).toString('hex') },
      ...{ generation: 0, timeoutSeconds, activeAt: Date.now() },
    };
    this.#sandboxes.set(entry.id, entry);
    await this.#run(entry, () => this.#create(entry));
    return view(entry);
  }

  async pause(id: string): Promise<ToySandbox> {
    const entry = this.#require(id, 'running');
    await this.#run(entry, () => this.#pause(entry));
    return view(entry);
  }

  async resume(id: string): Promise<ToySandbox> {
    const entry = this.#require(id, 'paused');
    await this.#run(entry, () => this.#resume(entry));
    return view(entry);
  }

  async destroy(id: string): Promise<void> {
    const entry = this.#find(id);
    await entry.work?.catch(() => undefined);
    entry.state = 'destroying';
    await this.#run(entry, async () => {
      await this.calls.removeAll(id);
      this.#sandboxes.delete(id);
    });
  }

  async exec(id: string, command: string): Promise<GuestRun> {
    const entry = this.#require(id, 'running');
    entry.activeAt = Date.now();
    return this.calls.exec(id, entry.token, command);
  }

  async get(id: string): Promise<ToySandbox> {
    return view(this.#find(id));
  }

  async list(): Promise<ToySandbox[]> {
    return [...this.#sandboxes.values()].map(view);
  }

  async #create(entry: Entry): Promise<void> {
    const { id, token } = entry;
    try {
      await this.calls.makeNetworkAndDisk(id);
      await this.calls.start(id);
      await this.calls.initGuest(id, token);
      entry.state = 'running';
    } catch (err) {
      await this.#bestEffort(id, () => this.calls.removeAll(id));
      this.#sandboxes.delete(id);
      throw err;
    }
  }

  async #pause(entry: Entry): Promise<void> {
    const { id } = entry;
    entry.state = 'pausing';
    try {
      await this.calls.saveMemory(id, entry.generation + 1);
    } catch (err) {
      await this.#bestEffort(id, () => this.calls.letGoOn(id));
      entry.state = 'running';
      throw err;
    }
    entry.generation += 1;
    try {
      await this.calls.release(id);
      entry.state = 'paused';
    } catch (err) {
      fail(entry, err);
      throw err;
    }
  }

  async #resume(entry: Entry): Promise<void> {
    const { id, token, generation } = entry;
    entry.state = 'resuming';
    try {
      await this.calls.openNetworkAndDisk(id);
      await this.calls.start(id, generation);
      await this.calls.initGuest(id, token);
    } catch (err) {
      await this.#bestEffort(id, () => this.calls.undoResume(id));
      entry.state = 'paused';
      throw err;
    }
    await this.#bestEffort(id, () => this.calls.forgetMemory(id, generation));
    entry.timeoutSeconds = 0;
    entry.state = 'running';
  }

  async #pauseIdle(entry: Entry): Promise<void> {
    await this.pause(entry.id).catch(() => this.#bestEffort(entry.id, () => this.destroy(entry.id)));
  }

  async #run(entry: Entry, work: () => Promise<void>): Promise<void> {
    const running = work();
    entry.work = running;
    try {
      await running;
    } finally {
      delete entry.work;
    }
  }

  /** What cannot be taken back is logged, and forgotten. */
  async #bestEffort(id: string, undo: () => Promise<void>): Promise<void> {
    await undo().catch((err: unknown) => this.log.warn({ err, id }, 'clean-up failed'));
  }

  #require(id: string, state: ToySandbox['state']): Entry {
    const entry = this.#find(id);
    if (entry.state === state) return entry;
    throw new ToyError(STATUS.conflict, `${id} is ${entry.state}, not ${state}`);
  }

  #find(id: string): Entry {
    const entry = this.#sandboxes.get(id);
    if (entry === undefined) throw new ToyError(STATUS.notFound, `there is no sandbox ${id}`);
    return entry;
  }
}

function isIdle({ state, timeoutSeconds, activeAt }: Entry): boolean {
  return state === 'running' && timeoutSeconds > 0 && Date.now() - activeAt > timeoutSeconds * 1000;
}

function fail(entry: Entry, err: unknown): void {
  entry.state = 'error';
  entry.error = String(err);
}

function view({ id, name, state, error }: Entry): ToySandbox {
  return { id, name, state, ...(error === undefined ? {} : { error }) };
}
