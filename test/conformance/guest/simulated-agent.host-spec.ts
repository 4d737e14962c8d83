import type { HostPorts, VmSpec } from '../../../activities/host/ports.js';
import { SimulatedLab } from '../../simulator/simulated-lab.js';
import type { GuestMachine } from './guest-harness.js';
import { describeGuestConformance } from './guest.conformance.js';

/** A guest of the chaos tests: its VM is a process, and so it stands still and dies as VMs do. */
function machineOf(id: string, spec: VmSpec, { hypervisor }: Pick<HostPorts, 'hypervisor'>): GuestMachine {
  return {
    id,
    address: spec.network.hostAddress,
    start: () => hypervisor.start(id, spec),
    crash: () => hypervisor.kill(id),
    freeze: () => hypervisor.freeze(id),
    thaw: () => hypervisor.unfreeze(id),
  };
}

describeGuestConformance('the simulated agent', async () => {
  const lab = await SimulatedLab.open('10.97.2.0/24');
  const again = await lab.restarted();
  const machine = async (id: string): Promise<GuestMachine> => machineOf(id, await lab.spec(id), lab.ports);
  return {
    guest: lab.ports.guest,
    restarted: () => again.guest,
    one: await machine(`gsa${process.pid}`),
    other: await machine(`gsb${process.pid}`),
    commands: {
      silent: 'true',
      prints: { command: 'nonce', output: /^[0-9a-f]{32}\n$/ },
      fails: { command: 'uname -a', exitCode: 127, output: /not found/ },
    },
    dispose: () => lab.close(),
  };
});
