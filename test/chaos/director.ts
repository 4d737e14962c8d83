import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { type Arrival, type Boundary, BoundaryCounter, holdsAt } from './boundary.js';

/** One boundary that an operation came to, and when. */
export interface Passage extends Boundary {
  at: number;
  held: boolean;
  /** Not while it is held, and never if its process was killed meanwhile: nobody has learnt then that the step was done. */
  wentOn: boolean;
}

interface Asked {
  socket: Socket;
  id: number;
}

interface Held {
  from: Asked;
  passage: Passage;
}

/** What the director knows of one operation on one sandbox or build. */
export class Track {
  readonly passages: Passage[] = [];
  readonly #counter = new BoundaryCounter();
  readonly #held: Held[] = [];
  #open = false;
  #reached: (() => void) | undefined;
  /** Resolves when somebody is held. */
  readonly reached: Promise<void>;

  constructor(readonly wanted: Boundary | undefined) {
    this.reached = new Promise((resolve) => (this.#reached = resolve));
  }

  arrive(arrival: Arrival, from: Asked): void {
    const boundary = this.#counter.next(arrival);
    const held = !this.#open && this.wanted !== undefined && holdsAt(this.wanted, boundary);
    const passage = { ...boundary, at: Date.now(), held, wentOn: false };
    this.passages.push(passage);
    if (!held) return letGo({ from, passage });
    this.#held.push({ from, passage });
    this.#reached?.();
  }

  /** From here on nobody is held. Whoever was in a process that has been killed does not go on. */
  release(killed?: string): void {
    this.#open = true;
    for (const held of this.#held.splice(0)) if (held.passage.process !== killed) letGo(held);
  }
}

function letGo({ from, passage }: Held): void {
  passage.wentOn = true;
  answer(from);
}

function answer({ socket, id }: Asked): void {
  // The process may have ended while it was held here.
  if (socket.writable) socket.write(`${id}\n`);
}

/**
 * Lets every step pass except the one at which a case wants its operation held. Workers ask it over a unix socket; one
 * that cannot reach it goes on by itself.
 */
export class Director {
  readonly #tracks = new Map<string, Track>();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  readonly #onLoopback: Server;

  private constructor(readonly socketPath: string) {
    this.#server = createServer((socket) => this.#serve(socket));
    this.#onLoopback = createServer((socket) => this.#serve(socket));
  }

  static async listen(socketPath: string): Promise<Director> {
    const director = new Director(socketPath);
    director.#server.listen(socketPath);
    await once(director.#server, 'listening');
    return director;
  }

  /** Also reachable by the worker of an emulated machine. Returns the port of this machine's loopback. */
  async listenOnLoopback(): Promise<number> {
    this.#onLoopback.listen(0, '127.0.0.1');
    await once(this.#onLoopback, 'listening');
    return (this.#onLoopback.address() as AddressInfo).port;
  }

  /** Forgets what it knew of the subject and follows it from here, to be held at `wanted` if that is given. */
  watch(subject: string, wanted?: Boundary): Track {
    this.#tracks.get(subject)?.release();
    const track = new Track(wanted);
    this.#tracks.set(subject, track);
    return track;
  }

  forget(subject: string): void {
    this.#tracks.get(subject)?.release();
    this.#tracks.delete(subject);
  }

  async close(): Promise<void> {
    for (const track of this.#tracks.values()) track.release();
    for (const socket of this.#sockets) socket.destroy();
    for (const server of [this.#server, this.#onLoopback]) await new Promise((resolve) => server.close(resolve));
    await rm(this.socketPath, { force: true });
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    // A worker that is killed resets its connection.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      const { id, ...arrival } = JSON.parse(line) as Arrival & { id: number };
      const track = this.#tracks.get(arrival.subject);
      if (track === undefined) answer({ socket, id });
      else track.arrive(arrival, { socket, id });
    });
  }
}
