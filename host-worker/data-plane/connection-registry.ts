import { Agent, type AgentOptions } from 'node:http';
import type { Socket } from 'node:net';
import type { GuestConnections } from '../../activities/host/guest-connections.js';
import type { NetworkAttachment } from '../../activities/host/ports.js';
import { DomainError } from '../../workflows/contract/errors.js';

/** How long connections get to end by themselves before a pause resets them. */
const DRAIN_MS = 250;

/**
 * Connections to the agent are kept for the next call, but not for longer than this:
 * well below any idle timeout of the agent, which would reset a call that just begins.
 */
const IDLE_MS = 20_000;

/** One client's connection through this host into a guest. */
export interface Passage {
  /** Breaks both sides at once, so that neither takes it for a proper end. */
  reset(): void;
}

/** The way into one guest. */
export interface GuestDoor {
  readonly address: string;
  readonly agent: Agent;
  /** Counts a passage until the returned function is called. */
  track(passage: Passage): () => void;
}

class Door implements GuestDoor {
  readonly agent = new Agent({ keepAlive: true, timeout: IDLE_MS } satisfies AgentOptions);
  readonly passages = new Set<Passage>();
  #emptied: (() => void) | undefined;

  constructor(readonly address: string) {}

  track(passage: Passage): () => void {
    this.passages.add(passage);
    return () => {
      this.passages.delete(passage);
      if (this.passages.size === 0) this.#emptied?.();
    };
  }

  /** Resolves when nothing passes any more, the time is up or the signal fires. */
  async drain(ms: number, signal?: AbortSignal): Promise<void> {
    if (this.passages.size === 0 || signal?.aborted) return;
    let end!: () => void;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const timer = setTimeout(end, ms);
    this.#emptied = end;
    signal?.addEventListener('abort', end);
    await ended;
    clearTimeout(timer);
    this.#emptied = undefined;
    signal?.removeEventListener('abort', end);
  }

  close(): void {
    for (const passage of [...this.passages]) passage.reset();
    this.passages.clear();
    this.agent.destroy();
  }
}

/**
 * Who may go into which guest, and who is in. A sandbox that nobody spoke of is
 * admitted when it has a network, so that connections go on after a restart of this
 * process. A guest's address is kept only as long as its network is: `forget` comes
 * before the address can be given to another sandbox.
 */
export class ConnectionRegistry implements GuestConnections {
  readonly #doors = new Map<string, Door>();
  readonly #held = new Set<string>();
  #closings = 0;

  constructor(
    private readonly findNetwork: (sandboxId: string) => Promise<NetworkAttachment | undefined>,
    private readonly drainMs = DRAIN_MS,
  ) {}

  /** The door of a guest. Use it at once: after a wait it may be another's. */
  async door(sandboxId: string): Promise<GuestDoor> {
    this.#refuseHeld(sandboxId);
    const known = this.#doors.get(sandboxId);
    if (known) return known;
    const closings = this.#closings;
    const network = await this.findNetwork(sandboxId);
    // What was found may be gone already, and its address another's.
    if (closings !== this.#closings) return this.door(sandboxId);
    if (!network) {
      throw new DomainError('not_found', `no sandbox ${sandboxId} runs on this host`, { sandboxId });
    }
    const made = this.#doors.get(sandboxId) ?? new Door(network.hostAddress);
    this.#doors.set(sandboxId, made);
    return made;
  }

  async hold(sandboxId: string, signal?: AbortSignal): Promise<void> {
    this.#held.add(sandboxId);
    await this.#doors.get(sandboxId)?.drain(this.drainMs, signal);
    this.#close(sandboxId);
  }

  admit(sandboxId: string): void {
    this.#held.delete(sandboxId);
  }

  cut(sandboxId: string): void {
    this.#held.add(sandboxId);
    this.#close(sandboxId);
  }

  forget(sandboxId: string): void {
    this.#close(sandboxId);
    this.#held.delete(sandboxId);
  }

  /** The end of this process: whoever is in gets this long to leave by itself and is then reset. */
  async closeAll(graceMs: number): Promise<void> {
    await Promise.all([...this.#doors.values()].map((door) => door.drain(graceMs)));
    for (const sandboxId of [...this.#doors.keys()]) this.#close(sandboxId);
  }

  #close(sandboxId: string): void {
    this.#closings += 1;
    const door = this.#doors.get(sandboxId);
    this.#doors.delete(sandboxId);
    door?.close();
  }

  #refuseHeld(sandboxId: string): void {
    if (!this.#held.has(sandboxId)) return;
    throw new DomainError(
      'guest_unavailable',
      `sandbox ${sandboxId} takes no connections now: it is starting, being paused or ending`,
      {
        sandboxId,
      },
    );
  }
}

/** A reset, where the system can send one: a plain close reads as the end of a stream. */
export function resetSocket(socket: Socket | null | undefined): void {
  if (!socket || socket.destroyed) return;
  socket.resetAndDestroy();
}
