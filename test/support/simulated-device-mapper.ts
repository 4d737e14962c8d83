import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { statSync, truncateSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Mutex } from 'async-mutex';
import { ChildProcessExec, CommandError, type Exec, type RunOptions } from '../../host-worker/exec.js';

/** In front of the chunks that differ from the base; each begins with its number. */
const HEADER = Buffer.from('simulated-cow\0\0\0');
const CHUNK_BYTES = 4096;

export interface SimulatedLoop {
  file: string;
  readOnly: boolean;
  sizelimit: number;
  autoclear: boolean;
}

interface SimulatedSnapshot {
  origin: number;
  cow: number;
  sectors: string;
  /** When the node was last written to before anybody could. */
  madeAt: number;
}

/**
 * Loop devices and snapshots as the kernel keeps them, with its rule of detaching at the last close, behind the
 * commands that ask for them: for logic that has to be right everywhere, and on machines without device-mapper. A
 * snapshot's node is a file with all of its content; what differs from the base goes to the CoW file when it is removed.
 */
export class SimulatedDeviceMapper implements Exec {
  readonly commands: string[] = [];
  readonly loops = new Map<number, SimulatedLoop>();
  readonly snapshots = new Map<string, SimulatedSnapshot>();
  /** What the status of a snapshot says instead of how full it is. */
  readonly said = new Map<string, string>();
  /** Nodes that somebody has open. */
  readonly held = new Set<string>();
  failing: { line: RegExp; stderr: string; times: number } | undefined;
  /** Called before a command runs. */
  before: ((line: string) => void) | undefined;
  readonly #real = new ChildProcessExec();
  /** Commands come one after the other, as the kernel takes them. */
  readonly #mutex = new Mutex();

  constructor(private readonly root: string) {}

  get nodeDir(): string {
    return join(this.root, 'mapper');
  }

  get sysBlock(): string {
    return join(this.root, 'block');
  }

  run(argv: readonly string[], options: RunOptions = {}): Promise<{ stdout: string; stderr: string }> {
    const line = argv.join(' ').replaceAll(`${this.root}/`, '');
    this.commands.push(line);
    if (argv[0] === 'cp') return this.#real.run(argv, options);
    return this.#mutex.runExclusive(async () => {
      options.signal?.throwIfAborted();
      this.before?.(line);
      if (this.failing?.line.test(line) === true && this.failing.times > 0) {
        this.failing.times -= 1;
        throw refused(argv, this.failing.stderr);
      }
      const [program, verb = '', name = ''] = argv;
      const stdout = program === 'losetup' ? await this.#losetup(argv) : await this.#dmsetup(argv, verb, name);
      return { stdout, stderr: '' };
    });
  }

  spawnDetached(): Promise<{ pid: number }> {
    return Promise.reject(new Error('a disk needs no process'));
  }

  async addLoop(loop: SimulatedLoop): Promise<number> {
    let index = 0;
    while (this.loops.has(index)) index += 1;
    this.loops.set(index, loop);
    await mkdir(join(this.sysBlock, `loop${index}/loop`), { recursive: true });
    await writeFile(join(this.sysBlock, `loop${index}/loop/backing_file`), `${loop.file}\n`);
    return index;
  }

  async #losetup(argv: readonly string[]): Promise<string> {
    if (argv.includes('--list')) return JSON.stringify({ loopdevices: [...this.loops].map(shown) });
    if (argv.includes('--show')) {
      const readOnly = argv.includes('--read-only');
      const sizelimit = readOnly ? Number(argv[argv.indexOf('--sizelimit') + 1]) : 0;
      return `/dev/loop${await this.addLoop({ file: argv.at(-1) ?? '', readOnly, sizelimit, autoclear: false })}\n`;
    }
    if (argv.includes('--detach')) {
      for (const device of argv.slice(2)) {
        const loop = this.loops.get(loopNumber(device));
        if (loop !== undefined) loop.autoclear = true;
      }
      await this.#detachUnused();
    }
    return '';
  }

  async #dmsetup(argv: readonly string[], verb: string, name: string): Promise<string> {
    const snapshot = this.snapshots.get(name);
    switch (verb) {
      case 'create':
        if (snapshot !== undefined) throw refused(argv, 'create ioctl failed: Device or resource busy');
        await this.#create(name, argv.at(-1) ?? '');
        return '';
      case 'remove':
        if (snapshot === undefined) throw refused(argv, 'remove ioctl failed: No such device or address');
        if (this.held.has(name)) throw refused(argv, 'remove ioctl failed: Device or resource busy');
        await this.#remove(name, snapshot);
        return '';
      case 'table':
        if (snapshot === undefined) throw refused(argv, 'table ioctl failed: No such device or address');
        return `0 ${snapshot.sectors} snapshot 7:${snapshot.origin} 7:${snapshot.cow} PO 8 1 discard_zeroes_cow\n`;
      case 'status':
        if (name === '--target')
          return [...this.snapshots.keys()].map((each) => `${each}: ${this.#status(each)}\n`).join('');
        if (snapshot === undefined) throw refused(argv, 'Device does not exist.');
        return `${this.#status(name)}\n`;
      case 'ls':
        return [...this.snapshots.keys()].map((each, index) => `${each}\t(253:${index})\n`).join('');
      default:
        return '';
    }
  }

  async #create(name: string, table: string): Promise<void> {
    const [, sectors = '', , origin = '', cow = ''] = table.split(' ');
    const snapshot = { origin: loopNumber(origin), cow: loopNumber(cow), sectors, madeAt: 0 };
    await mkdir(this.nodeDir, { recursive: true });
    const [base, store] = [this.loops.get(snapshot.origin)?.file, this.loops.get(snapshot.cow)?.file];
    if (base !== undefined && store !== undefined) {
      const node = join(this.nodeDir, name);
      await show(this.#real, base, store, node);
      snapshot.madeAt = statSync(node).mtimeMs;
    }
    this.snapshots.set(name, snapshot);
  }

  async #remove(name: string, { origin, cow, madeAt }: SimulatedSnapshot): Promise<void> {
    const [base, store] = [this.loops.get(origin)?.file, this.loops.get(cow)?.file];
    const node = join(this.nodeDir, name);
    // Files without a name are still there for the kernel; nobody can look at them any more.
    const written = statSync(node, { throwIfNoEntry: false })?.mtimeMs !== madeAt;
    if (base !== undefined && store !== undefined && written) await keep(base, node, store).catch(() => undefined);
    await rm(node, { force: true });
    this.snapshots.delete(name);
    await this.#detachUnused();
  }

  #status(name: string): string {
    return `0 ${this.snapshots.get(name)?.sectors ?? 0} snapshot ${this.said.get(name) ?? '16/131600 16'}`;
  }

  async #detachUnused(): Promise<void> {
    const used = new Set([...this.snapshots.values()].flatMap(({ origin, cow }) => [origin, cow]));
    for (const [index, { autoclear }] of this.loops) {
      if (!autoclear || used.has(index)) continue;
      this.loops.delete(index);
      await rm(join(this.sysBlock, `loop${index}`), { recursive: true });
    }
  }
}

/** Makes `node` what the CoW file `store` and its base are together. */
export async function show(exec: Exec, base: string, store: string, node: string): Promise<void> {
  await exec.run(['cp', '--sparse=always', '--', base, node]);
  if (!(await beginsWithHeader(store))) return;
  const cow = await readFile(store);
  const file = await open(node, 'r+');
  try {
    for (let at = HEADER.length + 4; ; at += 4 + CHUNK_BYTES) {
      const chunk = cow.readUInt32LE(at - 4);
      // Numbers begin at 1, so that the hole behind the last one ends them.
      if (chunk === 0) break;
      await file.write(cow, at, CHUNK_BYTES, (chunk - 1) * CHUNK_BYTES);
    }
  } finally {
    await file.close();
  }
}

async function beginsWithHeader(store: string): Promise<boolean> {
  const file = await open(store, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(HEADER.length), 0, HEADER.length, 0);
    return buffer.equals(HEADER);
  } finally {
    await file.close();
  }
}

async function keep(base: string, node: string, store: string): Promise<void> {
  const [was, is, size] = [await readFile(base), await readFile(node), statSync(store).size];
  const pieces: Buffer[] = [HEADER];
  for (let chunk = 0; chunk * CHUNK_BYTES < is.length; chunk += 1) {
    const [from, to] = [chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES];
    if (is.subarray(from, to).equals(was.subarray(from, to))) continue;
    const number = Buffer.alloc(4);
    number.writeUInt32LE(chunk + 1);
    pieces.push(number, is.subarray(from, to));
  }
  await writeFile(store, Buffer.concat(pieces));
  truncateSync(store, size);
}

function loopNumber(device: string): number {
  return Number(basename(device).slice('loop'.length));
}

function shown([index, { file, readOnly, sizelimit, autoclear }]: [number, SimulatedLoop]): object {
  const rest = { 'back-file': file, ro: readOnly, autoclear, offset: 0, sizelimit };
  return { name: `/dev/loop${index}`, 'maj:min': ` 7:${index} `, ...rest };
}

function refused(argv: readonly string[], stderr: string): CommandError {
  return new CommandError(argv, { exitCode: 1, signal: null, stderr, timedOut: false });
}
