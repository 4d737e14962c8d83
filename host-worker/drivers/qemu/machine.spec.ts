import { describe, expect, it } from '@jest/globals';
import type { VmSpec } from '../../../activities/host/ports.js';
import { type Accel, cpuModel, vmArguments } from './machine.js';

const spec: VmSpec = {
  vcpus: 2,
  memoryMb: 512,
  disk: { path: '/data/a,b/disk.qcow2', format: 'qcow2' },
  network: { namespace: 'sbx-x', tap: 'tap0', mac: '02:fc:00:00:00:05', hostAddress: '10.0.0.1' },
};

function argumentsOf(more: Partial<VmSpec> = {}, accel: Accel = 'tcg'): string[] {
  return vmArguments({
    id: 'x',
    accel,
    cpu: 'max',
    spec: { ...spec, ...more },
    boot: { kernel: '/k', initramfs: '/i', cmdline: 'console=ttyS0 quiet' },
    paths: { control: '/run/a,b/control', query: '/run/query', console: '/data/console.log' },
  });
}

const valueOf = (args: string[], name: string): string | undefined => args[args.indexOf(name) + 1];

describe('vmArguments', () => {
  it('has no default devices, no privileges to gain and no way to start a process', () => {
    const args = argumentsOf();
    expect(args).toContain('-nodefaults');
    expect(args).toContain('-no-user-config');
    expect(valueOf(args, '-sandbox')).toBe('on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny');
  });

  it('is of the size and shape asked for', () => {
    const args = argumentsOf();
    expect(valueOf(args, '-smp')).toBe('cpus=2');
    expect(valueOf(args, '-m')).toBe('512M');
    expect(valueOf(args, '-machine')).toMatch(/^pc-q35-6\.2,/);
    expect(valueOf(args, '-append')).toBe('console=ttyS0 quiet');
    expect(args).toContain('virtio-net-pci,netdev=net0,mac=02:fc:00:00:00:05,romfile=');
    expect(args).toContain('tap,id=net0,ifname=tap0,script=no,downscript=no');
  });

  it('takes paths with commas', () => {
    const args = argumentsOf();
    expect(args).toContain('socket,id=control,path=/run/a,,b/control,server=on,wait=off');
    expect(JSON.parse(valueOf(args, '-blockdev') ?? '')).toMatchObject({ filename: '/data/a,b/disk.qcow2' });
  });

  it('differs only in how it begins between a cold boot and a restore', () => {
    const [cold, restored] = [argumentsOf(), argumentsOf({ memoryFile: '/m' })];
    expect(restored).toEqual([...cold, '-incoming', 'defer']);
  });

  it('emulates or not', () => {
    expect(valueOf(argumentsOf(), '-accel')).toMatch(/^tcg,thread=multi/);
    expect(valueOf(argumentsOf({}, 'kvm'), '-accel')).toBe('kvm');
  });
});

describe('cpuModel', () => {
  const cpuinfo = (vendor: string, flags: string): string =>
    `processor\t: 0\nvendor_id\t: ${vendor}\nflags\t\t: ${flags}\n`;

  it('is a baseline of the vendor under KVM', () => {
    expect(cpuModel('kvm', cpuinfo('AuthenticAMD', 'fpu avx2 bmi2 fma movbe'))).toBe('EPYC-v1');
    expect(cpuModel('kvm', cpuinfo('GenuineIntel', 'fpu avx2 bmi2 fma movbe'))).toBe('Haswell-v2');
    expect(cpuModel('kvm', cpuinfo('GenuineIntel', 'fpu avx'))).toBe('Nehalem');
  });

  it('is the same on every machine when emulated', () => {
    expect(cpuModel('tcg', cpuinfo('AuthenticAMD', 'avx2'))).toBe(cpuModel('tcg', ''));
  });
});
