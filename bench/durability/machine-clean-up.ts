import { pino } from 'pino';
import { removeHostRules } from '../../cli/platform/host-rules.js';
import { readConfig } from '../../host-worker/config.js';
import { openSimulatedDrivers } from '../../test/simulator/simulated-drivers.js';
import type { Orchestrator } from './orchestrator.js';

/** Removes whatever an orchestrator left on the machine, found by its names and not by what anybody remembers. */
export async function clearMachine({ data, run, ledger }: Orchestrator['host']): Promise<void> {
  const config = readConfig({ TORPOR_DATA_DIR: data, TORPOR_RUN_DIR: run });
  const { ports } = await openSimulatedDrivers(config, pino({ level: 'silent' }), { ledger });
  const { hypervisor, disk, network, snapshots } = ports;
  // The VMs first: they hold taps and disks.
  for (const id of await hypervisor.list()) await hypervisor.kill(id);
  for (const id of await network.list()) await network.remove(id);
  for (const id of await disk.list()) await disk.remove(id);
  for (const id of await snapshots.list()) await snapshots.deleteAll(id);
  await removeHostRules(data);
}

/** Ids of everything that is there. */
export async function idsOnMachine({ data, run, ledger }: Orchestrator['host']): Promise<Set<string>> {
  const config = readConfig({ TORPOR_DATA_DIR: data, TORPOR_RUN_DIR: run });
  const { ports } = await openSimulatedDrivers(config, pino({ level: 'silent' }), { ledger });
  const { hypervisor, disk, network, snapshots } = ports;
  const lists = await Promise.all([hypervisor.list(), disk.list(), network.list(), snapshots.list()]);
  return new Set(lists.flat());
}
