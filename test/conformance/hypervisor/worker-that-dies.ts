import { CloudHypervisor } from '../../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor.driver.js';
import type { Hypervisor, VmSpec } from '../../../activities/host/ports.js';
import { QemuHypervisor } from '../../../host-worker/drivers/qemu/qemu-hypervisor.driver.js';
import { ChildProcessExec } from '../../../host-worker/exec.js';
import { SimulatedHypervisor } from '../../simulator/simulated-hypervisor.js';
import type { DriverSurroundings } from './hypervisor-lab.js';

/** How a process of its own opens the driver that a suite is run on. */
export type DriverRecipe = Omit<DriverSurroundings, 'exec'> &
  (
    | { kind: 'qemu' }
    | { kind: 'cloud-hypervisor'; binary: string }
    | { kind: 'simulated'; binary: string; ledger: string }
  );

export interface LastWords {
  recipe: DriverRecipe;
  id: string;
  /** What it is in the middle of. */
  call:
    { method: 'start'; spec: VmSpec } | { method: 'save'; file: string } | { method: 'freeze' | 'unfreeze' | 'kill' };
  /** How long after the call began. */
  afterMs: number;
}

/** As a worker that calls its driver and is killed before the answer; its argument is LastWords as JSON. */
async function main({ recipe, id, call, afterMs }: LastWords): Promise<void> {
  const hypervisor = await openDriver(recipe);
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), afterMs);
  switch (call.method) {
    case 'start':
      return hypervisor.start(id, call.spec);
    case 'save':
      await hypervisor.save(id, call.file);
      return undefined;
    case 'freeze':
    case 'unfreeze':
    case 'kill':
      return hypervisor[call.method](id);
  }
}

async function openDriver(recipe: DriverRecipe): Promise<Hypervisor> {
  const surroundings = { ...recipe, exec: new ChildProcessExec() };
  switch (surroundings.kind) {
    case 'qemu':
      return QemuHypervisor.open({ ...surroundings, accel: 'tcg' });
    case 'cloud-hypervisor':
      return CloudHypervisor.open(surroundings);
    case 'simulated':
      return new SimulatedHypervisor(surroundings);
  }
}

const words = process.argv[2];
if (words !== undefined) {
  await main(JSON.parse(words) as LastWords);
  process.exit(0);
}
