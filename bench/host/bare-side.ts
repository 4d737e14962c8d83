import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { HostSide, VmShape } from './vm-life.js';

const run = promisify(execFile);

/** The same in every namespace, as the guest image expects it (guest/image/README.md). */
const [GATEWAY, GUEST, MAC] = ['169.254.0.22', '169.254.0.21', '02:fc:00:00:00:05'];
const [HOST_SIDE, GUEST_SIDE] = ['10.98.255.0', '10.98.255.1'];
const NAME = `tbare${process.pid}`;
const VETH = `tb${process.pid}`.slice(0, 15);
const API_WAIT_MS = 60_000;

export interface BareParts {
  directory: string;
  base: string;
  binary: string;
  boot: { kernel: string; initramfs: string; cmdline: string };
  shape: VmShape;
}

/**
 * What the drivers do, by the tools themselves and nothing around: `ip`, `nft`, `losetup`, `dmsetup` and the API of Cloud Hypervisor.
 * No user of its own, no control group, no limits, no journal, no checksums; what is saved is synced, as it would be worth nothing otherwise.
 */
export class BareSide implements HostSide {
  #vmm: ChildProcess | undefined;
  #originLoop = '';
  #cowLoop = '';

  constructor(private readonly parts: BareParts) {}

  async networkUp(): Promise<string> {
    await batch(
      ['ip', '-batch', '-'],
      `netns add ${NAME}
link add ${VETH} type veth peer name eth0 netns ${NAME}
addr add ${HOST_SIDE}/31 dev ${VETH}
link set dev ${VETH} up
`,
    );
    await batch(
      ['ip', '-n', NAME, '-batch', '-'],
      `link set dev lo up
addr add ${GUEST_SIDE}/31 dev eth0
link set dev eth0 up
route add default via ${HOST_SIDE}
tuntap add dev tap0 mode tap
link set dev tap0 address 02:fc:00:00:00:16
addr add ${GATEWAY}/30 dev tap0
link set dev tap0 up
neigh add ${GUEST} lladdr ${MAC} dev tap0 nud permanent
`,
    );
    const inside = ['nsenter', `--net=/run/netns/${NAME}`];
    await batch([...inside, 'tee', '/proc/sys/net/ipv4/ip_forward'], '1\n');
    await batch(
      [...inside, 'nft', '-f', '-'],
      `table ip bare {
  chain prerouting { type nat hook prerouting priority dstnat; iifname "eth0" dnat to ${GUEST}; }
  chain postrouting { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
}
`,
    );
    return GUEST_SIDE;
  }

  async networkDown(): Promise<void> {
    await run('ip', ['link', 'del', 'dev', VETH]);
    await run('ip', ['netns', 'del', NAME]);
  }

  async attachDisk(): Promise<void> {
    const { base } = this.parts;
    const { size } = await stat(base);
    const cow = join(this.parts.directory, 'bare.cow');
    if (!(await stat(cow).catch(() => undefined))) {
      await writeFile(cow, '');
      await truncate(cow, size);
    }
    this.#originLoop = await losetup(['--read-only', base]);
    this.#cowLoop = await losetup([cow]);
    const table = `0 ${size / 512} snapshot ${this.#originLoop} ${this.#cowLoop} P 8`;
    await run('dmsetup', ['create', NAME, '--table', table]);
    await run('dmsetup', ['mknodes', NAME]);
  }

  async detachDisk(): Promise<void> {
    await run('dmsetup', ['remove', '--retry', NAME]);
    for (const loop of [this.#cowLoop, this.#originLoop]) await run('losetup', ['--detach', loop]);
  }

  async startCold(): Promise<void> {
    const { boot, shape } = this.parts;
    await this.#spawn();
    await this.#put('vm.create', {
      payload: { kernel: boot.kernel, initramfs: boot.initramfs, cmdline: boot.cmdline },
      cpus: { boot_vcpus: shape.vcpus, max_vcpus: shape.vcpus },
      memory: { size: shape.memoryMb * 1024 * 1024, shared: true },
      disks: [{ path: `/dev/mapper/${NAME}`, image_type: 'Raw' }],
      net: [{ tap: 'tap0', mac: MAC }],
      rng: { src: '/dev/urandom' },
      balloon: { size: 0, deflate_on_oom: true, free_page_reporting: true },
      serial: { mode: 'Null' },
      console: { mode: 'Off' },
    });
    await this.#put('vm.boot');
  }

  async freeze(): Promise<void> {
    await this.#put('vm.pause');
  }

  async snapshot(directory: string): Promise<void> {
    await mkdir(directory);
    await this.#put('vm.snapshot', { destination_url: `file://${directory}` });
    for (const name of await readdir(directory)) await syncFile(join(directory, name));
    await syncFile(directory);
  }

  async kill(): Promise<void> {
    const vmm = this.#vmm;
    this.#vmm = undefined;
    if (vmm === undefined || vmm.exitCode !== null) return;
    const gone = once(vmm, 'exit');
    vmm.kill('SIGKILL');
    await gone;
    await rm(this.#socket, { force: true });
  }

  async restore(directory: string, mode: 'eager' | 'on demand'): Promise<void> {
    await this.#spawn();
    const memory_restore_mode = mode === 'eager' ? 'Copy' : 'OnDemand';
    await this.#put('vm.restore', { source_url: `file://${directory}`, memory_restore_mode, resume: true });
  }

  /** The next life begins when this one has been killed, and nothing is saved of it. */
  async loaded(): Promise<void> {}

  async pid(): Promise<number> {
    const pid = this.#vmm?.pid;
    if (pid === undefined) throw new Error('there is no VMM');
    return pid;
  }

  /** After a life that was cut short. */
  async clear(): Promise<void> {
    await this.kill();
    for (const undo of [() => this.detachDisk(), () => this.networkDown()]) await undo().catch(() => undefined);
    await rm(join(this.parts.directory, 'bare.cow'), { force: true });
  }

  get #socket(): string {
    return join(this.parts.directory, 'bare.sock');
  }

  async #spawn(): Promise<void> {
    await rm(this.#socket, { force: true });
    const argv = [`--net=/run/netns/${NAME}`, this.parts.binary, '--api-socket', `path=${this.#socket}`];
    const vmm = spawn('nsenter', argv, { stdio: 'ignore' });
    this.#vmm = vmm;
    const deadline = Date.now() + API_WAIT_MS;
    while (!(await this.#ping())) {
      if (vmm.exitCode !== null || Date.now() > deadline) throw new Error(`${this.parts.binary} did not start`);
      await delay(2);
    }
  }

  #ping(): Promise<boolean> {
    return api(this.#socket, 'GET', 'vmm.ping').then(
      () => true,
      () => false,
    );
  }

  #put(call: string, body?: object): Promise<void> {
    return api(this.#socket, 'PUT', call, body);
  }
}

/** Starts a command, gives it its input and waits for its end. */
async function batch([command = '', ...args]: string[], input: string): Promise<void> {
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'inherit'] });
  child.stdin.end(input);
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}`);
}

async function losetup(args: string[]): Promise<string> {
  return (await run('losetup', ['--find', '--show', ...args])).stdout.trim();
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path);
  await file.sync();
  await file.close();
}

function api(socketPath: string, method: string, call: string, body?: object): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const asked = request({ socketPath, method, path: `/api/v1/${call}`, headers }, (answer) => {
      let text = '';
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()));
      answer.on('end', () =>
        (answer.statusCode ?? 500) < 300 ? resolve() : reject(new Error(`${call}: ${answer.statusCode} ${text}`)),
      );
    });
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
