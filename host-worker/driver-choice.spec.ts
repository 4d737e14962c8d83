import { describe, expect, it } from '@jest/globals';
import { chooseDrivers, type DriverWishes, type MachineFindings } from './driver-choice.js';

const good = (why: string) => ({ usable: true, why });
const bad = (why: string) => ({ usable: false, why });

/** A production machine with everything there is. */
const COMPLETE: MachineFindings = {
  cloudHypervisor: good('cloud-hypervisor v53.0'),
  qemu: good('QEMU 7.2.0'),
  kvm: good('a guest booted under KVM'),
  dmSnapshot: good('a snapshot device was made'),
  qemuImg: good('qemu-img 7.2.0'),
  netns: good('namespaces, veth, tun and nftables work'),
  images: good('minimal is built'),
};
const ANYTHING: DriverWishes = { hypervisor: 'auto', disk: 'auto', accel: 'auto' };

const LACKS = {
  ch: { cloudHypervisor: bad('there is no cloud-hypervisor') },
  kvm: { kvm: bad('the guest died') },
  dm: { dmSnapshot: bad('there is no device-mapper') },
  qemu: { qemu: bad('there is no qemu') },
  img: { qemuImg: bad('there is no qemu-img') },
} satisfies Record<string, Partial<MachineFindings>>;
type Lack = keyof typeof LACKS;

function choices(lacks: readonly Lack[], wishes: Partial<DriverWishes> = {}) {
  const findings = lacks.reduce((all, lack) => ({ ...all, ...LACKS[lack] }), COMPLETE);
  return chooseDrivers(findings, { ...ANYTHING, ...wishes });
}

function pair(lacks: readonly Lack[], wishes: Partial<DriverWishes> = {}): string {
  const [hypervisor, disk] = choices(lacks, wishes);
  const how = hypervisor?.accel === undefined ? '' : `/${hypervisor.accel}`;
  return `${hypervisor?.driver ?? 'none'}${how} ${disk?.driver ?? 'none'}`;
}

describe('chooseDrivers', () => {
  it('chooses one driver for each port on a complete machine', () => {
    expect(choices([]).map(({ port, driver }) => [port, driver])).toEqual([
      ['hypervisor', 'cloud-hypervisor'],
      ['disk', 'dm-snapshot'],
      ['network', 'netns'],
      ['guest', 'envd'],
    ]);
  });

  it.each<[lacks: Lack[], pair: string]>([
    [[], 'cloud-hypervisor/kvm dm-snapshot'],
    [['qemu', 'img'], 'cloud-hypervisor/kvm dm-snapshot'],
    [['ch'], 'qemu/kvm qcow2'],
    [['dm'], 'qemu/kvm qcow2'],
    [['kvm'], 'qemu/tcg qcow2'],
    [['ch', 'kvm', 'dm'], 'qemu/tcg qcow2'],
    [['ch', 'img'], 'qemu/kvm dm-snapshot'],
    [['ch', 'dm', 'img'], 'qemu/kvm none'],
    [['qemu', 'dm'], 'none qcow2'],
    [['qemu', 'ch'], 'none qcow2'],
    [['qemu', 'kvm'], 'none qcow2'],
  ])('without %j it takes %s', (lacks, expected) => {
    expect(pair(lacks)).toBe(expected);
  });

  it.each<[wishes: Partial<DriverWishes>, lacks: Lack[], pair: string]>([
    [{ hypervisor: 'qemu' }, [], 'qemu/kvm qcow2'],
    [{ hypervisor: 'qemu', disk: 'dm-snapshot' }, [], 'qemu/kvm dm-snapshot'],
    [{ hypervisor: 'qemu', accel: 'tcg', disk: 'dm-snapshot' }, ['kvm'], 'qemu/tcg dm-snapshot'],
    [{ disk: 'qcow2' }, [], 'qemu/kvm qcow2'],
    [{ disk: 'dm-snapshot' }, ['ch'], 'qemu/kvm dm-snapshot'],
    [{ disk: 'dm-snapshot' }, ['dm'], 'qemu/kvm none'],
    [{ disk: 'qcow2' }, ['img'], 'qemu/kvm none'],
    [{ accel: 'tcg' }, [], 'qemu/tcg qcow2'],
    [{ accel: 'kvm' }, [], 'cloud-hypervisor/kvm dm-snapshot'],
    [{ accel: 'kvm' }, ['kvm'], 'none qcow2'],
    [{ hypervisor: 'cloud-hypervisor' }, [], 'cloud-hypervisor/kvm dm-snapshot'],
    [{ hypervisor: 'cloud-hypervisor', disk: 'dm-snapshot' }, ['qemu'], 'cloud-hypervisor/kvm dm-snapshot'],
  ])('asked for %j on a machine without %j it takes %s', (wishes, lacks, expected) => {
    expect(pair(lacks, wishes)).toBe(expected);
  });

  it.each<[wishes: Partial<DriverWishes>, lacks: Lack[], why: RegExp]>([
    [{ hypervisor: 'cloud-hypervisor' }, ['ch'], /asked for and cannot be used: there is no cloud-hypervisor/],
    [{ hypervisor: 'cloud-hypervisor' }, ['kvm'], /needs KVM, and the guest died/],
    [{ hypervisor: 'cloud-hypervisor' }, ['dm'], /dm-snapshot, which do not work: there is no device-mapper/],
    [{ hypervisor: 'cloud-hypervisor', disk: 'qcow2' }, [], /raw disks only.*TORPOR_DISK=dm-snapshot/],
    [{ hypervisor: 'cloud-hypervisor', accel: 'tcg' }, [], /cannot emulate.*TORPOR_QEMU_ACCEL/],
    [{ hypervisor: 'qemu' }, ['qemu'], /^there is no qemu$/],
    [{ hypervisor: 'qemu', accel: 'kvm' }, ['kvm'], /KVM was asked for and does not work: the guest died/],
    [{}, ['qemu', 'dm'], /no qemu; not Cloud Hypervisor: .*no device-mapper/],
  ])('never replaces what %j asks for on a machine without %j, and says why', (wishes, lacks, why) => {
    const hypervisor = choices(lacks, wishes)[0];
    expect(hypervisor?.driver).toBeUndefined();
    expect(hypervisor?.why).toMatch(why);
  });

  it('says why it falls back, unless that was asked for', () => {
    expect(choices(['ch'])[0]?.why).toContain('not Cloud Hypervisor: there is no cloud-hypervisor');
    expect(choices(['kvm'])[0]?.why).toContain('software emulation, because the guest died');
    expect(choices(['ch'], { hypervisor: 'qemu' })[0]?.why).not.toContain('Cloud Hypervisor');
    expect(choices(['ch', 'img'])[1]?.why).toContain('not qcow2: there is no qemu-img');
  });

  it.each([
    ['netns', 'network'],
    ['images', 'guest'],
  ] as const)('without %s the port %s has no driver', (finding, port) => {
    const found = chooseDrivers({ ...COMPLETE, [finding]: bad('it is missing') }, ANYTHING);
    expect(found.find((choice) => choice.port === port)).toEqual({ port, driver: undefined, why: 'it is missing' });
  });
});
