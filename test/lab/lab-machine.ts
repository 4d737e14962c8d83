import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient } from '../../host-worker/drivers/qemu/qmp-client.js';

export interface MachineOptions {
  kernel: string;
  initramfs: string;
  cmdline: string;
  cpus: number;
  memoryMb: number;
  /** By serial number, which is how the machine tells its disks apart; the root comes first. */
  disks: readonly MachineDisk[];
  /** A second network card, on a segment that machines with the same port share. */
  segment: { port: number; mac: string } | undefined;
  /** Logs and the monitor's socket. */
  directory: string;
}

export interface MachineDisk {
  serial: string;
  file: string;
  format: 'raw' | 'qcow2';
  readOnly: boolean;
}

const MONITOR_MS = 20_000;
const RETRY_MS = 20;

/**
 * One QEMU process: an emulated AMD machine whose processor has virtualization extensions, so that KVM works inside
 * wherever this runs. In a session of its own and killed with the process that made it.
 */
export class LabMachine {
  readonly exited: Promise<void>;
  #dead = false;
  #wasKilled = false;

  private constructor(
    private readonly child: ChildProcess,
    private readonly monitor: string,
    private readonly log: string,
  ) {
    this.exited = once(child, 'exit').then(() => void (this.#dead = true));
  }

  static async start(options: MachineOptions): Promise<LabMachine> {
    const monitor = join(options.directory, 'monitor.sock');
    const log = join(options.directory, 'qemu.log');
    await rm(monitor, { force: true });
    const output = openSync(log, 'a');
    try {
      const argv = ['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', ...qemuArguments(options, monitor)];
      const child = spawn('setpriv', argv, { detached: true, stdio: ['ignore', output, output] });
      await once(child, 'spawn');
      return new LabMachine(child, monitor, log);
    } finally {
      closeSync(output);
    }
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get running(): boolean {
    return !this.#dead;
  }

  /** Makes a port of the machine reachable on this one's loopback; returns the port there. */
  async forward(guestPort: number, localPort = 0): Promise<number> {
    const refused = await this.monitorLine(`hostfwd_add net0 tcp:127.0.0.1:${localPort}-:${guestPort}`);
    if (refused.trim() !== '')
      throw new Error(`QEMU cannot forward to port ${guestPort} of the lab: ${refused.trim()}`);
    const listed = await this.monitorLine('info usernet');
    const row = new RegExp(String.raw`HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+${guestPort}\s`, 'g');
    const port = Number([...listed.matchAll(row)].at(-1)?.[1]);
    if (!(port > 0)) throw new Error(`QEMU does not list the forwarding to port ${guestPort} of the lab:\n${listed}`);
    return port;
  }

  async monitorLine(line: string): Promise<string> {
    const qmp = await this.#connect();
    try {
      return (await qmp.execute('human-monitor-command', { 'command-line': line })) as string;
    } finally {
      qmp.close();
    }
  }

  /** The socket is there a moment after the process. */
  async #connect(): Promise<QmpClient> {
    const deadline = performance.now() + MONITOR_MS;
    for (;;) {
      try {
        return await QmpClient.connect(this.monitor);
      } catch (cause) {
        if (this.#dead) throw new Error(`QEMU has ended: ${(await readFile(this.log, 'utf8')).trim()}`, { cause });
        if (performance.now() > deadline) throw cause;
        await delay(RETRY_MS);
      }
    }
  }

  /** By `kill`, rather than by itself. */
  get wasKilled(): boolean {
    return this.#wasKilled;
  }

  /** At once, as a power cut: what the machine had not written is gone. */
  async kill(): Promise<void> {
    this.#wasKilled = true;
    if (!this.#dead) this.child.kill('SIGKILL');
    await this.exited;
  }
}

function qemuArguments(options: MachineOptions, monitor: string): string[] {
  const { cpus, memoryMb, directory, segment } = options;
  const disks = options.disks.flatMap(({ serial, file, format, readOnly }) => [
    '-drive',
    // "unsafe" only leaves out fsync on this machine: all that the lab has written survives the end of QEMU.
    `if=none,id=${serial},file=${file},format=${format},cache=unsafe,read-only=${readOnly ? 'on' : 'off'},discard=unmap,detect-zeroes=unmap`,
    '-device',
    `virtio-blk-pci,drive=${serial},serial=${serial}`,
  ]);
  const network = ['-netdev', 'user,id=net0', '-device', 'virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:4c:41:42'];
  if (segment !== undefined) {
    network.push('-netdev', `socket,id=net1,mcast=230.76.65.66:${segment.port},localaddr=127.0.0.1`);
    network.push('-device', `virtio-net-pci,netdev=net1,romfile=,mac=${segment.mac}`);
  }
  return [
    ...['-accel', 'tcg,thread=multi,tb-size=512', '-M', 'q35', '-cpu', 'EPYC,+svm,+npt'],
    ...[
      '-smp',
      String(cpus),
      '-m',
      String(memoryMb),
      '-nodefaults',
      '-no-user-config',
      '-display',
      'none',
      '-no-reboot',
    ],
    ...['-kernel', options.kernel, '-initrd', options.initramfs, '-append', options.cmdline],
    ...['-chardev', `file,id=console,path=${join(directory, 'console.log')},append=on`, '-serial', 'chardev:console'],
    ...['-qmp', `unix:${monitor},server=on,wait=off`, '-device', 'virtio-rng-pci'],
    ...disks,
    ...network,
  ];
}
