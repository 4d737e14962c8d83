import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestConfig, Network } from '../../activities/host/ports.js';
import type { StepReport } from '../../cli/step-report.js';
import { EnvdGuest } from '../../host-worker/drivers/envd/envd-guest.driver.js';
import type { Pair } from '../statistics.js';
import { BenchMachine } from './bench-machine.js';
import { EGRESS, type Egress, type HostFigures } from './host-rows.js';
import { allocatedBytes, beginCountingDirty, dirtyBytes, residentBytes } from './memory-figures.js';
import { type Call, type HostSide, type VmShape, live } from './vm-life.js';

/** What the guest is made to write between a restore and the next save. */
const WRITTEN_MIB = 16;
const NETWORKS = 12;

/** Every call of the production drivers beside the tools that they call, in turn, on one machine. */
export async function benchHost(
  options: { cacheDir: string; rounds: number; shape: VmShape },
  report: StepReport,
): Promise<HostFigures> {
  const machine = await BenchMachine.open(options.cacheDir, options.shape);
  try {
    return await new HostBench(machine).run(options.rounds, report);
  } finally {
    await machine.close();
  }
}

class HostBench {
  readonly #guest = new EnvdGuest();
  readonly #figures: HostFigures = { calls: new Map(), pool: { open: [], closed: [] }, saves: [], dirtySaves: [] };
  #directories = 0;

  constructor(private readonly machine: BenchMachine) {}

  async run(rounds: number, report: StepReport): Promise<HostFigures> {
    // The first of everything loads files and compiles code; it is not counted.
    for (let round = -1; round < rounds; round += 1) {
      const title = round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`;
      await report.step(title, () => this.#round(round));
    }
    await report.step('networks from the pool', () => this.#networks());
    await report.step('what a save writes after little was written', () => this.#writeAndSave());
    return this.#figures;
  }

  /** One life on either side. Who comes first changes, as the second finds files in the page cache. */
  async #round(round: number): Promise<void> {
    const times = new Map<string, Map<Call, number>>();
    const sides = ['drivers', 'bare'] as const;
    for (const name of round % 2 === 0 ? sides : sides.toReversed()) {
      const side = this.machine[name];
      const directory = this.#newDirectory();
      times.set(name, await live(side, this.#guest, directory, () => this.#weigh(side, directory, round)));
      await side.clear();
      await rm(directory, { recursive: true });
    }
    if (round < 0) return;
    for (const [call, torpor] of times.get('drivers') ?? []) {
      const direct = times.get('bare')?.get(call);
      const pair: Pair | undefined = direct === undefined ? undefined : { direct, torpor };
      if (pair) this.#figures.calls.set(call, [...(this.#figures.calls.get(call) ?? []), pair]);
    }
  }

  /** Of the drivers' saves: what they wrote, and what of the guest was in memory. */
  async #weigh(side: HostSide, directory: string, round: number): Promise<void> {
    if (round < 0 || side !== this.machine.drivers) return;
    const resident = await residentBytes(await side.pid());
    this.#figures.saves.push({ saved: await allocatedBytes(directory), resident });
  }

  async #networks(): Promise<void> {
    const { pooled, built } = this.machine;
    for (const egress of EGRESS) {
      // What is kept ahead follows what is asked for; the first of each kind finds the other's and is not counted.
      for (let n = -1; n < NETWORKS; n += 1) {
        // What is made in the background would compete with what is measured.
        await pooled.settled();
        const pair = { torpor: await this.#network(pooled, egress, n), direct: await this.#network(built, egress, n) };
        if (n >= 0) this.#figures.pool[egress].push(pair);
      }
    }
  }

  async #network(network: Network, egress: Egress, n: number): Promise<number> {
    const id = `net${n + 1}`;
    const from = performance.now();
    await network.ensure(id, { egress: egress === 'open' });
    const ms = performance.now() - from;
    await network.remove(id);
    return ms;
  }

  /** A VM that goes on from saved memory, writes a little and is saved again: how much more than that is written? */
  async #writeAndSave(): Promise<void> {
    const { drivers } = this.machine;
    const address = await drivers.networkUp();
    await drivers.attachDisk();
    await drivers.startCold();
    await this.#guest.waitReady(address, 300_000);
    const config: GuestConfig = {
      accessToken: randomBytes(16).toString('hex'),
      env: {},
      templateId: 'bench',
      user: 'user',
    };
    await this.#guest.init(address, 'bench', config);
    const first = this.#newDirectory();
    await drivers.freeze();
    await drivers.snapshot(first);
    await drivers.kill();
    await drivers.restore(first, 'on demand');
    await drivers.loaded();
    const counts = await beginCountingDirty(await drivers.pid());
    const write = `head -c ${WRITTEN_MIB}M /dev/urandom > /dev/shm/written`;
    await this.#guest.run(address, config.accessToken, write, 1024);
    await drivers.freeze();
    const dirty = counts ? await dirtyBytes(await drivers.pid()) : undefined;
    const second = this.#newDirectory();
    await drivers.snapshot(second);
    this.#figures.dirtySaves.push({ saved: await allocatedBytes(second), dirty });
    await drivers.clear();
  }

  #newDirectory(): string {
    return join(this.machine.directory, `saved${(this.#directories += 1)}`);
  }
}
