import { access, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import type { VmSpec } from '../../activities/host/ports.js';
import { type HostConfig, readConfig } from '../../host-worker/config.js';
import { NetnsNetwork } from '../../host-worker/drivers/netns/netns-network.driver.js';
import { findByArgument } from '../../host-worker/drivers/vmm/vm-process.js';
import { ChildProcessExec } from '../../host-worker/exec.js';
import type { MachineDrivers } from '../../host-worker/machine-drivers.js';
import { namesIn } from '../../host-worker/sandbox-folder.js';
import { hostTag } from '../../host-worker/host-tag.js';
import { openSimulatedDrivers } from './simulated-drivers.js';
import type { SimulatedTimes } from './simulated-hypervisor.js';

/** Exists everywhere; the platform's own user may not have been made yet. */
const USER = 'nobody';

/** A machine with simulated VMs, on directories of its own. */
export class SimulatedLab {
  #paths = 0;

  private constructor(
    readonly config: HostConfig,
    readonly tag: string,
    readonly ports: MachineDrivers['ports'],
  ) {}

  static async open(cidr: string): Promise<SimulatedLab> {
    // Not below the default temporary directory, which may be in memory.
    const dataDir = await mkdtemp('/var/tmp/torpor-simulated-');
    const runDir = await mkdtemp('/run/torpor-simulated-');
    const config = readConfig({
      TORPOR_DATA_DIR: dataDir,
      TORPOR_RUN_DIR: runDir,
      TORPOR_NETWORK_CIDR: cidr,
      // Several instances live at once here; each would fill a pool of its own.
      TORPOR_NETWORK_POOL: '0',
      TORPOR_VM_USER: USER,
    });
    return new SimulatedLab(config, await hostTag(dataDir), await openPorts(config));
  }

  get ledger(): string {
    return ledgerOf(this.config);
  }

  get faults(): string {
    return faultsOf(this.config);
  }

  /** Drivers that know nothing of what others did, as after a restart of the worker. */
  restarted(times: SimulatedTimes = {}): Promise<MachineDrivers['ports']> {
    return openPorts(this.config, times);
  }

  async spec(id: string, memoryMb = 128): Promise<VmSpec> {
    const [network, disk] = await Promise.all([
      this.ports.network.ensure(id, { egress: false }),
      this.ports.images.rootfs('minimal').then((base) => this.ports.disk.create(id, base)),
    ]);
    return { vcpus: 1, memoryMb, disk, network };
  }

  newPath(): string {
    return join(this.config.dataDir, `file${(this.#paths += 1)}`);
  }

  /** Processes, run files and control groups of one VM. */
  async leftovers(id: string): Promise<string[]> {
    const { runDir } = this.config;
    const processes = await findByArgument(join(runDir, 'vms', id));
    const groups = ['', '/memory', '/pids'].map((hierarchy) => `/sys/fs/cgroup${hierarchy}/torpor/${id}`);
    const left = await Promise.all(groups.map(async (path) => ((await exists(path)) ? [path] : [])));
    const folders = await namesIn(join(runDir, 'vms'));
    return [...processes.map(({ pid }) => `process ${pid}`), ...left.flat(), ...folders.filter((name) => name === id)];
  }

  async close(): Promise<void> {
    const { hypervisor, network } = this.ports;
    await Promise.all((await hypervisor.list()).map((id) => hypervisor.kill(id)));
    await Promise.all((await network.list()).map((id) => network.remove(id)));
    const { dataDir, runDir, networkCidr } = this.config;
    const host = { cidr: networkCidr, hostTag: this.tag, vmUser: USER, exec: new ChildProcessExec() };
    await new NetnsNetwork(host).removeHostTableIfUnused();
    await rm(runDir, { recursive: true });
    await rm(dataDir, { recursive: true });
  }
}

function ledgerOf({ dataDir }: HostConfig): string {
  return join(dataDir, 'ledger.jsonl');
}

function faultsOf({ dataDir }: HostConfig): string {
  return join(dataDir, 'faults.json');
}

async function openPorts(config: HostConfig, times: SimulatedTimes = {}): Promise<MachineDrivers['ports']> {
  const options = { ledger: ledgerOf(config), faults: faultsOf(config), times };
  return (await openSimulatedDrivers(config, pino({ level: 'silent' }), options)).ports;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
