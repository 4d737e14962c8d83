import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { EnvdGuest } from '../../host-worker/drivers/envd/envd-guest.driver.js';
import { LabAgent, type RunOptions, type RunResult } from './lab-agent.js';
import type { LabImages } from './lab-disks.js';
import { LabMachine, type MachineDisk } from './lab-machine.js';

export interface LabOptions {
  images: LabImages;
  /** The working tree, as makeTreeImage has packed it. */
  tree: string;
  /** Overlays, logs and sockets; what a second start finds again. */
  directory: string;
  /** systemd and udev take their time; tests of the installation need them. */
  init?: 'fast' | 'systemd';
  memoryMb?: number;
  cpus?: number;
  /** The host name. */
  name?: string;
  /** A network with other labs: those with the same port. The address has a prefix length: 10.77.0.1/24. */
  segment?: { port: number; address: string };
  bootDeadlineMs?: number;
}

const AGENT_PORT = 49983;
const DEFAULTS = { init: 'fast', memoryMb: 3072, cpus: 2, name: 'torpor-lab', bootDeadlineMs: 600_000 } as const;
/** Of the console, in the message of a lab that failed. */
const SHOWN_CHARACTERS = 3_000;
const MOMENT_MS = 500;

/**
 * A stand-in for a production host: a stock kernel with device-mapper and KVM, booted under emulation. Several may run
 * at once. From inside, this machine's loopback is at OUTSIDE.
 */
export class Lab {
  /** How programs in the lab reach servers on this machine's loopback. */
  static readonly OUTSIDE = '10.0.2.2';

  readonly #forwards = new Map<number, number>();
  #machine: LabMachine | undefined;
  #agent: LabAgent | undefined;

  #failed: Promise<never> = new Promise(() => undefined);

  private constructor(private readonly options: LabOptions) {}

  static async start(options: LabOptions): Promise<Lab> {
    const lab = new Lab(options);
    await mkdir(options.directory, { recursive: true });
    await lab.boot();
    return lab;
  }

  /** Boots the machine, with the disks it had before if it ran before. Resolves when programs can be run in it. */
  async boot(): Promise<void> {
    if (this.#machine?.running === true) throw new Error('the lab runs already');
    const machine = await LabMachine.start({
      ...this.options.images,
      cmdline: this.#cmdline(),
      cpus: this.options.cpus ?? DEFAULTS.cpus,
      memoryMb: this.options.memoryMb ?? DEFAULTS.memoryMb,
      disks: await this.#disks(),
      segment: this.#segment(),
      directory: this.options.directory,
    });
    this.#machine = machine;
    this.#failed = machine.exited.then(async () => {
      if (!machine.wasKilled) throw await this.#failure('ended by itself');
      return new Promise<never>(() => undefined);
    });
    this.#failed.catch(() => undefined);
    try {
      // The same ports as before: servers outside may know them.
      for (const [port, local] of [...this.#forwards]) await machine.forward(port, local);
      this.#agent = new LabAgent(await this.forward(AGENT_PORT));
      await this.#answered(machine, this.#agent.port);
    } catch (err) {
      await machine.kill();
      throw err;
    }
  }

  /** Rejects when the machine that was booted last ends by itself, with the end of its console: a kernel says there why. */
  get failed(): Promise<never> {
    return this.#failed;
  }

  /** Ends with the machine, if that ends first. */
  run(command: string | readonly string[], options?: RunOptions): Promise<RunResult> {
    const running = this.agent.run(command, options).catch(async (cause: unknown) => {
      // A connection is cut a moment before its machine is known to be gone, which says more.
      if (options?.signal?.aborted !== true) await Promise.race([this.failed, delay(MOMENT_MS)]);
      throw cause;
    });
    return Promise.race([running, this.failed]);
  }

  putFile(local: string, inLab: string): Promise<void> {
    return this.agent.putFile(local, inLab);
  }

  getFile(inLab: string, local: string): Promise<void> {
    return this.agent.getFile(inLab, local);
  }

  get agent(): LabAgent {
    if (this.#agent === undefined || this.#machine?.running !== true) throw new Error('the lab does not run');
    return this.#agent;
  }

  /** The pid of the emulated machine. */
  get pid(): number {
    return this.#machine?.pid ?? 0;
  }

  /** A server in the lab, reachable on this machine's loopback at the port returned; also after a reboot. */
  async forward(port: number): Promise<number> {
    const known = this.#forwards.get(port);
    if (known !== undefined) return known;
    if (this.#machine === undefined) throw new Error('the lab does not run');
    const local = await this.#machine.forward(port);
    this.#forwards.set(port, local);
    return local;
  }

  /** A power cut. Everything that the lab's programs had handed to its disks stays. */
  async kill(): Promise<void> {
    await this.#machine?.kill();
  }

  /** Writes back what is in the lab's memory, then ends it. */
  async stop(): Promise<void> {
    if (this.#machine?.running !== true) return;
    await this.run(['sync'], { cwd: '/', timeoutMs: 60_000 });
    await this.kill();
  }

  async console(): Promise<string> {
    return readFile(join(this.options.directory, 'console.log'), 'utf8');
  }

  #cmdline(): string {
    const { init = DEFAULTS.init, name = DEFAULTS.name, segment } = this.options;
    // The reasons for most of these: guest/image/lib/index.sh. Names of network cards are those of the kernel.
    const words = [
      'console=ttyS0',
      'loglevel=4',
      'reboot=k',
      'panic=1',
      'mitigations=off',
      'cryptomgr.notests',
      'init_on_alloc=0',
    ];
    words.push('net.ifnames=0', `lab.init=${init}`, `lab.name=${name}`);
    if (segment !== undefined) words.push(`lab.address=${segment.address}`);
    return words.join(' ');
  }

  #segment(): { port: number; mac: string } | undefined {
    const { segment } = this.options;
    if (segment === undefined) return undefined;
    const host = Number(/\.(\d+)\//.exec(segment.address)?.[1] ?? 1);
    return { port: segment.port, mac: `52:54:00:4c:53:${host.toString(16).padStart(2, '0')}` };
  }

  async #disks(): Promise<MachineDisk[]> {
    const { images, tree, directory } = this.options;
    const overlay = async (serial: string, base: string): Promise<MachineDisk> => {
      const file = join(directory, `${serial}.qcow2`);
      if (!existsSync(file))
        await promisify(execFile)('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', file]);
      return { serial, file, format: 'qcow2', readOnly: false };
    };
    return [
      await overlay('root', images.root),
      { serial: 'tree', file: tree, format: 'raw', readOnly: true },
      { serial: 'modules', file: images.modules, format: 'raw', readOnly: true },
      await overlay('cache', images.cache),
    ];
  }

  async #answered(machine: LabMachine, port: number): Promise<void> {
    const gone = new AbortController();
    void machine.exited.then(() => gone.abort(new Error('QEMU has ended')));
    try {
      await new EnvdGuest(port).waitReady(
        '127.0.0.1',
        this.options.bootDeadlineMs ?? DEFAULTS.bootDeadlineMs,
        gone.signal,
      );
    } catch (cause) {
      throw await this.#failure('did not start', cause);
    }
  }

  async #failure(what: string, cause?: unknown): Promise<Error> {
    const { directory, name = DEFAULTS.name } = this.options;
    const console = (await this.console().catch(() => '')).slice(-SHOWN_CHARACTERS);
    return new Error(`the lab ${name} ${what} (see ${directory}/qemu.log); the end of its console:\n${console}`, {
      cause,
    });
  }
}
