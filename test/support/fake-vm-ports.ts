import { createHash } from 'node:crypto';
import type { Guest, Hypervisor, Network, NetworkAttachment, VmSpec } from '../../activities/host/ports.js';
import { checkedPolicy } from '../../host-worker/drivers/netns/policy-rules.js';
import { checkedId } from '../../host-worker/sandbox-folder.js';
import { DomainError } from '../../workflows/contract/errors.js';
import type { FakeMemory, FakeVm } from './fake-guest-state.js';
import type { FakeMachine } from './fake-machine.js';
import { diskPath } from './fake-storage-ports.js';

export function fakeHypervisor(machine: FakeMachine): Hypervisor {
  let boots = 0;
  const boot = (): FakeMemory => ({ bootId: `boot-${(boots += 1)}`, notes: [], quiesced: false });
  return {
    identity: { name: 'fake', version: '1', cpu: 'fake-cpu' },
    start: async (id, spec) => {
      const status = machine.vms.get(checkedId(id))?.status;
      if (status === 'running') return;
      if (status === 'frozen') {
        throw new DomainError('state_conflict', `the VM of ${id} exists and is frozen: unfreeze or kill it first`);
      }
      requireDisk(machine, id, spec);
      const memory = spec.memoryFile === undefined ? boot() : loadMemory(machine, id, spec.memoryFile);
      if (!machine.networks.has(id)) machine.violations.push(`VM ${id} started without a network`);
      if (!machine.disks.has(id)) machine.violations.push(`VM ${id} started without a disk`);
      machine.consoles.set(id, `console of ${id}`);
      machine.vms.set(id, { status: 'running', spec, memory });
    },
    status: async (id) => machine.vms.get(id)?.status ?? 'absent',
    freeze: async (id) => {
      machine.vm(id).status = 'frozen';
    },
    unfreeze: async (id) => {
      machine.vm(id).status = 'running';
    },
    save: async (id, file) => {
      const vm = machine.vm(id);
      if (vm.status === 'running') {
        throw new DomainError('state_conflict', `the VM of ${id} runs: freeze it before it is saved`);
      }
      const content = JSON.stringify(vm.memory);
      machine.files.write(file, content);
      return { bytes: Buffer.byteLength(content), sha256: createHash('sha256').update(content).digest('hex') };
    },
    kill: async (id) => {
      machine.vms.delete(id);
    },
    consoleLog: async (id, maxBytes) => {
      const printed = machine.consoles.get(id);
      if (printed === undefined) throw new DomainError('not_found', `there is no console log of ${id} on this host`);
      return printed.slice(-maxBytes);
    },
    awaitMemory: async () => undefined,
    list: async () => [...machine.vms.keys()],
  };
}

function requireDisk(machine: FakeMachine, id: string, { disk }: VmSpec): void {
  if ([...machine.disks.keys()].some((each) => diskPath(each) === disk.path)) return;
  if (machine.files.read(disk.path)) {
    throw new DomainError('command_failed', `the VM of ${id} did not start: ${disk.path} is not in qcow2 format`);
  }
  throw new DomainError('not_found', `the disk of ${id} is missing: ${disk.path}`);
}

function loadMemory(machine: FakeMachine, id: string, path: string): FakeMemory {
  const content = machine.files.read(path);
  if (content === undefined) throw new DomainError('not_found', `the saved memory of ${id} is missing: ${path}`);
  try {
    return JSON.parse(content.toString()) as FakeMemory;
  } catch (cause) {
    throw new DomainError('snapshot_corrupt', `the saved memory ${path} of ${id} cannot be loaded`, {}, { cause });
  }
}

export function fakeNetwork(machine: FakeMachine): Network {
  let slots = 0;
  const find = (id: string): NetworkAttachment | undefined => {
    const found = machine.networks.get(id);
    if (!found) return undefined;
    const { policy: _, ...attachment } = found;
    return attachment;
  };
  return {
    ensure: async (id, policy) => {
      checkedPolicy(policy);
      const found = find(checkedId(id));
      slots += found ? 0 : 1;
      const made = found ?? {
        ...{ namespace: `sbx-${id}`, tap: 'tap0', mac: '02:fc:00:00:00:05' },
        hostAddress: `192.0.2.${slots}`,
      };
      machine.networks.set(id, { ...made, policy });
      return made;
    },
    apply: async (id, policy) => {
      checkedPolicy(policy);
      const found = machine.networks.get(checkedId(id));
      if (!found) throw new DomainError('not_found', `${id} has no network on this host`);
      machine.networks.set(id, { ...found, policy });
    },
    counters: async (id) =>
      machine.networks.has(checkedId(id))
        ? { sentBytes: 0, sentPackets: 0, receivedBytes: 0, receivedPackets: 0, deniedPackets: 0 }
        : undefined,
    find: async (id) => find(checkedId(id)),
    remove: async (id) => {
      if (machine.vms.has(checkedId(id))) machine.violations.push(`network ${id} removed under a living VM`);
      machine.networks.delete(id);
    },
    list: async () => [...machine.networks.keys()],
  };
}

export function fakeGuest(machine: FakeMachine): Guest {
  const reach = (address: string): FakeVm => {
    const id = machine.behind(address);
    const vm = id === undefined ? undefined : machine.vms.get(id);
    if (vm?.status !== 'running') throw new DomainError('guest_unavailable', `no guest answers at ${address}`);
    return vm;
  };
  return {
    waitReady: async (address) => {
      reach(address);
    },
    init: async (address, id, config) => {
      reach(address).memory.quiesced = false;
      machine.inits.push({ id, config });
    },
    quiesce: async (address) => {
      reach(address).memory.quiesced = true;
    },
    unquiesce: async (address) => {
      reach(address).memory.quiesced = false;
    },
    run: async (address, _token, command) => {
      const vm = reach(address);
      vm.memory.notes.push(command);
      return { ...(machine.commandResults.get(command) ?? { exitCode: 0, output: '' }), durationMs: 1 };
    },
  };
}
