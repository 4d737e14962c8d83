import { describe, expect, it } from '@jest/globals';
import { chooseDrivers, type MachineFindings } from './driver-choice.js';

const good = (why: string) => ({ usable: true, why });
const bad = (why: string) => ({ usable: false, why });

function findings(overrides: Partial<MachineFindings> = {}): MachineFindings {
  return {
    qemu: good('QEMU 7.2.0'),
    kvm: good('a guest booted under KVM'),
    qemuImg: good('qemu-img 7.2.0'),
    netns: good('namespaces, veth, tun and nftables work'),
    images: good('minimal is built'),
    ...overrides,
  };
}

function hypervisor(overrides: Partial<MachineFindings>, accel: 'auto' | 'kvm' | 'tcg') {
  return chooseDrivers(findings(overrides), { hypervisor: 'auto', accel })[0];
}

describe('chooseDrivers', () => {
  it('chooses one driver for each port on a complete machine', () => {
    const choices = chooseDrivers(findings(), { hypervisor: 'auto', accel: 'auto' });
    expect(choices.map(({ port, driver }) => [port, driver])).toEqual([
      ['hypervisor', 'qemu'],
      ['disk', 'qcow2'],
      ['network', 'netns'],
      ['guest', 'envd'],
    ]);
  });

  it('uses KVM where a guest booted under it', () => {
    expect(hypervisor({}, 'auto')).toMatchObject({ driver: 'qemu', accel: 'kvm' });
  });

  it('falls back to software emulation and says why', () => {
    const choice = hypervisor({ kvm: bad('the guest died') }, 'auto');
    expect(choice).toMatchObject({ driver: 'qemu', accel: 'tcg' });
    expect(choice?.why).toContain('the guest died');
  });

  it('never replaces a forced accelerator', () => {
    expect(hypervisor({ kvm: bad('the guest died') }, 'kvm')).toEqual({
      port: 'hypervisor',
      driver: undefined,
      why: 'KVM was asked for and does not work: the guest died',
    });
    expect(hypervisor({}, 'tcg')).toMatchObject({ driver: 'qemu', accel: 'tcg' });
  });

  it('has no hypervisor without QEMU, whatever KVM can do', () => {
    expect(hypervisor({ qemu: bad('qemu-system-x86_64 is not installed') }, 'auto')).toEqual({
      port: 'hypervisor',
      driver: undefined,
      why: 'qemu-system-x86_64 is not installed',
    });
  });

  it.each([
    ['qemuImg', 'disk'],
    ['netns', 'network'],
    ['images', 'guest'],
  ] as const)('without %s the port %s has no driver', (finding, port) => {
    const choices = chooseDrivers(findings({ [finding]: bad('it is missing') }), { hypervisor: 'auto', accel: 'auto' });
    expect(choices.find((choice) => choice.port === port)).toEqual({ port, driver: undefined, why: 'it is missing' });
  });
});
